"""Order of the export nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
from seg_pipeline.pipelines.export import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            node(
                nodes.build_bundle,
                [
                    "checkpoint",
                    "chosen_postprocessing",
                    "train_val_images",
                    "params:prediction",
                    "params:export",
                    "unverified_bundle",
                ],
                "built_bundle",
            ),
            node(
                nodes.check_reduced_precision,
                ["built_bundle", "checkpoint", "train_val_images", "params:scores", "params:export"],
                "checked_bundle",
            ),
            node(
                nodes.compare_formats,
                ["checked_bundle", "checkpoint", "train_val_images", "params:scores", "params:export"],
                "export_parity",
            ),
            node(nodes.verify_bundle, ["checked_bundle", "export_parity"], "bundle"),
        ],
        tags="export",
    )
