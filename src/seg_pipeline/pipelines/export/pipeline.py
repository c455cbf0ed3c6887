"""Order of the export nodes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from seg_pipeline.pipelines.export import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            Node(
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
                name="build_bundle",
            ),
            Node(
                nodes.check_reduced_precision,
                ["built_bundle", "checkpoint", "train_val_images", "params:scores", "params:export"],
                "checked_bundle",
                name="check_reduced_precision",
            ),
            Node(
                nodes.compare_formats,
                ["checked_bundle", "checkpoint", "train_val_images", "params:scores", "params:export"],
                "export_parity",
                name="compare_formats",
            ),
            Node(nodes.accept_bundle, ["checked_bundle", "export_parity"], "bundle", name="accept_bundle"),
        ],
        tags="export",
    )
