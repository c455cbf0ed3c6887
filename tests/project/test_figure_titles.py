"""Titles of the figures in the report, as the nodes draw them: a title says what the figure shows."""

from types import SimpleNamespace

import pandas as pd
import pytest

from seg_pipeline.pipelines.reporting import nodes

MULTILABEL = SimpleNamespace(names=["box", "disc"], task="multilabel")
MULTICLASS = SimpleNamespace(names=["box", "disc"], task="multiclass")
CONFUSION = pd.DataFrame([[8, 2], [1, 9]], index=MULTILABEL.names, columns=MULTILABEL.names)
SCORES = {
    "mean_dice": 0.8,
    "mean_iou": 0.7,
    "aggregation": "image",
    "empty_policy": "skip",
    "num_images": 4,
    "classes": {"box": {"dice": 0.8, "iou": 0.7}},
}
OF_OBJECTS = {"classes": {"box": {"objects": {"num_true": 3, "by_threshold": {"0.50": {"f1": 0.8}}}}}}
IMAGE_SCORES = pd.DataFrame({"class": ["box"] * 3, "dice": [0.5, 0.8, 0.9], "true_pos": [4, 40, 90], "false_neg": 1})
GROUP_SCORES = pd.DataFrame({"group": ["a", "b"], "class": "box", "dice": [0.5, 0.8]})
THRESHOLDS = pd.DataFrame({"class": "box", "threshold": [0.4, 0.6], "dice": 0.8, "precision": 0.9, "recall": 0.7})
RELIABILITY = pd.DataFrame({"class": "box", "confidence": [0.1, 0.9], "frequency": [0.2, 0.8], "pixels": 9})
RELIABILITY["calibrated"] = False
GAIN = {"step": "fill_holes", "class": "box", "value": True, "dice_before": 0.5, "dice_after": 0.6}
GAIN |= {"gain_interval": None, "kept": True}
OPTION = {"option": "plain", "measure": "Dice", "score": 0.8, "gain": 0.0, "gain_low": None, "gain_high": None}
OPTION |= {"seconds_per_image": 0.01, "cost": 1.0, "used": True}


@pytest.mark.parametrize(
    ("figure", "title"),
    [
        (lambda: nodes.plot_class_scores(SCORES), "Dice and IoU by class"),
        (lambda: nodes.plot_object_scores(OF_OBJECTS), "F1 of objects against the IoU threshold"),
        (lambda: nodes.plot_confusion(CONFUSION, MULTICLASS), "Confusion matrix of the test split"),
        (
            lambda: nodes.plot_confusion(CONFUSION, MULTILABEL),
            "Confusion matrix of the test split\n(a pixel with two true classes counts in both rows)",
        ),
        (lambda: nodes.plot_object_sizes(IMAGE_SCORES, MULTILABEL), "Dice against object size"),
        (lambda: nodes.plot_group_scores(GROUP_SCORES, MULTILABEL), "Dice by group, worst first"),
        (
            lambda: nodes.plot_thresholds(THRESHOLDS, None, MULTILABEL),
            "Dice, precision and recall against the threshold (validation images)",
        ),
        (
            lambda: nodes.plot_reliability(RELIABILITY, None, MULTILABEL),
            "Reliability: observed frequency of the class against predicted probability",
        ),
        (
            lambda: nodes.plot_postprocessing({"gains": [GAIN]}),
            "Postprocessing: validation Dice before and after each step",
        ),
        (
            lambda: nodes.plot_prediction_options(pd.DataFrame([OPTION])),
            "Prediction options: Dice and time per image",
        ),
    ],
)
def test_the_title_says_what_the_figure_shows(figure, title):
    assert figure().get_suptitle() == title
