"""Order of the combine nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
from seg_pipeline.pipelines.combine import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            node(
                nodes.combine_manifests,
                ["source_manifests", "params:dataset", "params:scores", "params:training", "params:combine"],
                ["manifest", "train_val_images", "findings"],
            ),
        ],
        tags="data",
    )
