"""Order of the inference nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
from seg_pipeline.pipelines.inference import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            node(
                nodes.predict_images,
                [
                    "trained_checkpoint",
                    "exported_bundle",
                    "chosen_postprocessing",
                    "params:prediction",
                    "params:inference",
                    "inference_folder",
                ],
                ["inference_areas", "inference_findings"],
            ),
        ],
        tags="export",
    )
