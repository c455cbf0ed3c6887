"""Order of the annotate nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
from seg_pipeline.pipelines.annotate import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            node(
                nodes.write_annotations,
                [
                    "trained_checkpoint",
                    "exported_bundle",
                    "chosen_postprocessing",
                    "params:prediction",
                    "params:inference",
                    "params:annotate",
                    "annotation_folder",
                ],
                ["annotation_polygons", "unpredicted_images"],
            ),
        ],
        tags="export",
    )
