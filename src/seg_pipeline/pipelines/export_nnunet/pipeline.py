"""Order of the export_nnunet nodes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from seg_pipeline.pipelines.export_nnunet import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [Node(nodes.plan_nnunet_raw, ["manifest", "params:export_nnunet"], "nnunet_raw", name="plan_nnunet_raw")],
        tags="export",
    )
