"""Order of the reporting nodes."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from seg_pipeline.pipelines.reporting import nodes

PARAMS, DATASET, SEED = "params:reporting", "params:dataset", "params:seed"

CARD = (
    "manifest",
    "findings",
    "run_command",
    "training_config",
    "checkpoint_sha256",
    "best_hyperparameters",
    "training_history",
    "postprocessing",
    "test_scores",
)
TABLES = (*CARD, "image_scores", "predictions", "comparison")
FIGURES = (
    "training_curves",
    "class_scores",
    "confusion_matrix",
    "object_size_chart",
    "group_scores_chart",
    "threshold_chart",
    "reliability_chart",
    "postprocessing_chart",
    "prediction_options_chart",
    "comparison_chart",
)


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            Node(nodes.plot_class_scores, "test_scores", "class_scores", name="plot_class_scores"),
            Node(nodes.plot_confusion, ["confusion_counts", DATASET], "confusion_matrix", name="plot_confusion"),
            Node(
                nodes.plot_predictions,
                ["manifest", "predictions", "image_scores", PARAMS],
                "prediction_sheet",
                name="plot_predictions",
            ),
            Node(nodes.plot_object_sizes, ["image_scores", DATASET], "object_size_chart", name="plot_object_sizes"),
            Node(nodes.plot_group_scores, ["group_scores", DATASET], "group_scores_chart", name="plot_group_scores"),
            Node(
                nodes.plot_thresholds,
                ["threshold_curve", "postprocessing", DATASET],
                "threshold_chart",
                name="plot_thresholds",
            ),
            Node(
                nodes.plot_reliability,
                ["reliability", "test_scores", DATASET],
                "reliability_chart",
                name="plot_reliability",
            ),
            Node(nodes.plot_postprocessing, "postprocessing", "postprocessing_chart", name="plot_postprocessing"),
            Node(
                nodes.plot_prediction_options,
                "prediction_options",
                "prediction_options_chart",
                name="plot_prediction_options",
            ),
            Node(
                nodes.compare_runs,
                ["manifest", "image_scores", PARAMS, SEED],
                ["comparison", "comparison_chart"],
                name="compare_runs",
            ),
            Node(
                nodes.write_report,
                {"params": PARAMS, "seed": SEED, **{name: name for name in (*TABLES, *FIGURES)}},
                "report",
                name="write_report",
            ),
            Node(
                nodes.write_model_card,
                {"params": PARAMS, **{name: name for name in CARD}},
                "model_card",
                name="write_model_card",
            ),
        ],
        tags=["report", "accepts_missing_inputs"],
    )
