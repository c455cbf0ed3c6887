"""Order of the evaluation nodes."""

from kedro.pipeline import Pipeline

from seg_pipeline.pipelines import node
from seg_pipeline.pipelines.evaluation import nodes

CHOICE = ["train_val_images", "checkpoint", "params:scores", "params:prediction", "params:evaluation", "params:seed"]


def create_pipeline(**_: object) -> Pipeline:
    return Pipeline(
        [
            node(nodes.measure_options, CHOICE, "prediction_options"),
            node(nodes.choose_postprocessing, [*CHOICE, "prediction_options"], ["postprocessing", "threshold_curve"]),
            node(
                nodes.predict_test,
                ["manifest", "checkpoint", "postprocessing", "params:prediction", "params:evaluation"],
                ["predictions", "reliability"],
            ),
            node(
                nodes.score_predictions,
                ["manifest", "predictions", "reliability", "params:scores", "params:evaluation", "params:seed"],
                ["test_scores", "image_scores", "group_scores", "series_scores", "confusion_counts"],
            ),
        ],
        tags="evaluate",
    )
