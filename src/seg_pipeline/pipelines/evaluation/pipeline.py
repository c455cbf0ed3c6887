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
            Node(nodes.plot_class_scores, "test_scores", "class_scores", name="plot_class_scores"),
            Node(nodes.plot_confusion, "confusion", "confusion_matrix", name="plot_confusion"),
            Node(
                nodes.plot_predictions,
                ["manifest", "predictions", "image_scores", "params:evaluation"],
                "prediction_sheet",
                name="plot_predictions",
            ),
        ],
        tags="report",
    )
