"""The figures of the report: where they stand, and how to read them."""

CHARTS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "scores": (
        (
            "class_scores",
            "Dice and IoU by class",
            "The line across a bar's end is the confidence interval: the longer, the less certain.",
        ),
        (
            "confusion_matrix",
            "Confusion matrix",
            "Each row shows, in percent, what the pixels of a true class were predicted as; the diagonal is the "
            "recall. If classes overlap, a pixel of two true classes counts in the row of each; its column is the "
            "class itself if it was predicted, else the first other predicted class, else background.",
        ),
    ),
    "failures": (
        (
            "object_size_chart",
            "Dice against object size",
            "A line that rises to the right means that small objects are segmented less well than large ones.",
        ),
        (
            "group_scores_chart",
            "Dice by group",
            "Look at a group far below the others: another scanner, another day, another annotator?",
        ),
    ),
    "choices": (
        (
            "postprocessing_chart",
            "Gain per postprocessing step",
            "Chosen on validation images only; a step that gains nothing there is not used.",
        ),
        (
            "threshold_chart",
            "Threshold curves",
            "If the curve is flat at its top, the threshold hardly matters; if it is narrow, the threshold may not "
            "suit other images.",
        ),
        (
            "reliability_chart",
            "Reliability",
            "Below the diagonal the model is overconfident, above it underconfident.",
        ),
        ("prediction_options_chart", "Prediction options", "The gain in Dice of each option, and its cost in time."),
    ),
    "training": (
        (
            "training_curves",
            "Training curves",
            "If train Dice keeps rising while validation Dice falls, the model overfits.",
        ),
    ),
    "comparison": (
        (
            "comparison_chart",
            "Difference by class",
            "If an interval does not contain 0, the runs differ in this class.",
        ),
    ),
}
"""Place -> name of the figure, title, and how to read it."""
