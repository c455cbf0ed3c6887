"""Order of the select nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
from seg_pipeline.pipelines.select import nodes

MODEL = ["manifest", "checkpoint", "chosen_postprocessing", "params:select"]


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            node(nodes.rank_images, MODEL, ["selection", "selection_page"]),
            node(nodes.write_pseudo_labels, MODEL, "pseudo_labels"),
        ],
        tags="model",
    )
