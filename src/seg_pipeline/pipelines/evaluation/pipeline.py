"""Order of the evaluation nodes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from seg_pipeline.pipelines.evaluation import nodes


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            Node(
                nodes.predict_test,
                ["manifest", "checkpoint", "params:scores", "params:evaluation"],
                "predictions",
                name="predict_test",
            ),
            Node(
                nodes.score_predictions,
                ["manifest", "predictions", "params:scores"],
                ["test_scores", "image_scores", "confusion"],
                name="score_predictions",
            ),
        ],
        tags="report",
    )
