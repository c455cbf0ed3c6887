"""The figures of the report: section, title, and what to conclude from each."""

CAPTIONS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "scores": (
        (
            "class_scores",
            "Dice and IoU by class",
            "The longer the confidence interval at the end of a bar, the less certain the score.",
        ),
        (
            "confusion_matrix",
            "Confusion matrix",
            "A large value off the diagonal is a confusion: that share of the true class (row) was predicted as the "
            "other class (column). The diagonal is the recall. If classes overlap, a pixel with two true classes "
            "counts in both rows; its column is the class itself if predicted, else the first other predicted class, "
            "else background.",
        ),
    ),
    "failures": (
        (
            "object_size_chart",
            "Dice against object size",
            "If the line rises to the right, small objects are segmented less well than large ones.",
        ),
        (
            "group_scores_chart",
            "Dice by group",
            "Check groups far below the others: another scanner, another day, another annotator?",
        ),
    ),
    "choices": (
        (
            "postprocessing_chart",
            "Postprocessing",
            "Steps are chosen on validation images only; a step without a certain gain is not used.",
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
        (
            "prediction_options_chart",
            "Prediction options",
            "An option pays off if its gain in Dice is worth its time per image.",
        ),
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
"""Section of the report: (data set of the figure, title, caption) in the order shown."""
