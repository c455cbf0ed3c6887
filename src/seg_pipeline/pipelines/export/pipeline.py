"""Order of the export nodes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from seg_pipeline.pipelines.export import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            Node(
                nodes.draft_bundle,
                [
                    "checkpoint",
                    "chosen_postprocessing",
                    "development",
                    "params:prediction",
                    "params:export",
                    "bundle_draft",
                ],
                "drafted_bundle",
                name="draft_bundle",
            ),
            Node(
                nodes.judge_forms,
                ["drafted_bundle", "checkpoint", "development", "params:scores", "params:export"],
                "judged_bundle",
                name="judge_forms",
            ),
            Node(
                nodes.compare_forms,
                ["judged_bundle", "checkpoint", "development", "params:scores", "params:export"],
                "export_parity",
                name="compare_forms",
            ),
            Node(nodes.accept_bundle, ["judged_bundle", "export_parity"], "bundle", name="accept_bundle"),
        ],
        tags="export",
    )
