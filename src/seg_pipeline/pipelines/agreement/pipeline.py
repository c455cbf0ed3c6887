"""Order of the agreement nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
from seg_pipeline.pipelines.agreement import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            node(
                nodes.compare_readers,
                ["manifest", "params:scores", "params:evaluation", "params:agreement", "params:seed"],
                ["reader_agreement", "image_agreement", "area_differences"],
            ),
            node(
                nodes.write_agreement_page,
                ["reader_agreement", "image_agreement", "area_differences"],
                "agreement_page",
            ),
        ],
        tags="agreement",
    )
