"""Order of the reporting nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
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
    "reader_agreement",
    "annotator_agreement",
)
TABLES = (*CARD, "image_scores", "predictions", "threshold_curve", "reliability", "comparison")
FIGURES = (
    "sample_sheet",
    "class_counts_chart",
    "split_comparison",
    "learning_rate_curves",
    "training_curves",
    "class_scores",
    "object_scores_chart",
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
            node(nodes.plot_class_scores, "test_scores", "class_scores"),
            node(nodes.plot_object_scores, "test_scores", "object_scores_chart"),
            node(nodes.plot_confusion, ["confusion_counts", DATASET, "test_scores"], "confusion_matrix"),
            node(nodes.plot_predictions, ["image_scores", "predictions", "manifest", PARAMS], "prediction_sheet"),
            node(nodes.plot_object_sizes, ["image_scores", DATASET], "object_size_chart"),
            node(nodes.plot_group_scores, ["group_scores", DATASET], "group_scores_chart"),
            node(nodes.plot_thresholds, ["threshold_curve", "postprocessing", DATASET], "threshold_chart"),
            node(nodes.plot_reliability, ["reliability", "test_scores", DATASET], "reliability_chart"),
            node(nodes.plot_postprocessing, "postprocessing", "postprocessing_chart"),
            node(nodes.plot_prediction_options, "prediction_options", "prediction_options_chart"),
            node(nodes.compare_runs, ["manifest", "image_scores", PARAMS, SEED], ["comparison", "comparison_chart"]),
            node(
                nodes.write_report,
                {"params": PARAMS, "seed": SEED, **{name: name for name in (*TABLES, *FIGURES)}},
                "report",
            ),
            node(nodes.write_model_card, {"params": PARAMS, **{name: name for name in CARD}}, "model_card"),
        ],
        tags=["report", "accepts_missing_inputs"],
    )
