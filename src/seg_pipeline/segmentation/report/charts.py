"""Which figures the report shows where, and how each is read."""

CHARTS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "scores": (
        (
            "class_scores",
            "Dice and IoU by class",
            "A line across a bar's end is its interval; the longer, the less sure.",
        ),
        (
            "confusion_matrix",
            "Confusion by pixels",
            "A row holds the pixels of a true class and where they were put, in percent: the diagonal is the recall. "
            "Where classes may overlap, a pixel of two true classes counts in the row of each; its column is the class "
            "itself where that was predicted, else the first other predicted class, else background.",
        ),
    ),
    "failures": (
        (
            "object_size_chart",
            "Dice against object size",
            "A line that rises to the right: small objects are found less well than large ones.",
        ),
        (
            "group_scores_chart",
            "Dice by group",
            "A group far below the others is worth a look: another scanner, another day, another annotator?",
        ),
    ),
    "choices": (
        (
            "postprocessing_chart",
            "Gain of each step of postprocessing",
            "Chosen on the validation split only; a step that gains nothing there is not used.",
        ),
        (
            "threshold_chart",
            "Threshold curves",
            "A flat top: the choice of the threshold hardly matters. A narrow one: it may not hold for other images.",
        ),
        (
            "reliability_chart",
            "Reliability",
            "Below the diagonal the model is surer than it is right; above it, less sure.",
        ),
        ("prediction_options_chart", "Ways to predict", "What each would gain in Dice, and how much longer it takes."),
    ),
    "training": (
        (
            "training_curves",
            "Training curves",
            "Curves that part, train rising and validation falling: the training images are learnt by heart.",
        ),
    ),
    "comparison": (
        ("comparison_chart", "Difference by class", "A line that does not touch 0: the runs differ in this class."),
    ),
}
"""Place -> name of the figure, title, and how to read it."""
