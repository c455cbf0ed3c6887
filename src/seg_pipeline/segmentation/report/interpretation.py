"""Sentences about a run: what its scores mean, how they were computed, and their limits."""

from collections.abc import Iterator
from typing import Any

from seg_pipeline.segmentation.metrics.confidence_intervals import FEW_GROUPS
from seg_pipeline.segmentation.report.results import Results, join_words, plural, score
from seg_pipeline.segmentation.settings.model_card import ModelCardDetails

FEW_IMAGES = 10
"""A class in fewer test images gets a warning."""
OVERFIT_GAP = 0.15
"""If train Dice exceeds validation Dice by more than this, the report says that the model overfits."""
WIDE_INTERVAL = 0.2
"""A class with a wider Dice interval gets a warning."""

AGGREGATIONS = {
    "image": "Each image is scored per class; scores are averaged over images, then over classes.",
    "dataset": "The pixels of all images are counted together and scored once per class; scores are averaged over "
    "classes. Large objects weigh more than small ones.",
}
POLICIES = {
    "skip": "An image without the class in both ground truth and prediction is left out.",
    "zero": "An image without the class in both ground truth and prediction scores 0: rare classes look bad.",
    "one": "An image without the class in both ground truth and prediction scores 1: rare classes look good.",
}
EFFECT_OF_ABSENCE = {
    "train": "cannot be learned",
    "val": "were not considered in any choice",
    "test": "score 0 if they are predicted, and are undefined otherwise",
}
"""Consequence for classes without a mask in a split."""
MEASURES = (
    ("dice", "Dice"),
    ("iou", "IoU"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("boundary_iou", "boundary IoU"),
    ("surface_dice", "surface Dice"),
    ("hd95", "HD95"),
    ("cldice", "clDice"),
)
"""Keys of a class in the test scores, and their column headings."""
OBJECT_MEASURES = (
    ("f1_50", "F1"),
    ("precision_50", "precision"),
    ("recall_50", "recall"),
    ("f1_50_95", "F1, mean"),
    ("ap_50_95", "average precision"),
    ("pq", "panoptic quality"),
    ("sq", "SQ"),
    ("rq", "RQ"),
    ("count_error", "count error"),
    ("count_bias", "count bias"),
)
"""Keys of a class's scores by object, and their column headings."""
OBJECT_MEANINGS = (
    "A true and a predicted object match if their IoU is above 0.5. Precision is the share of predicted objects that "
    "match, recall the share of true ones, and F1 = 2 TP / (2 TP + FP + FN).",
    "F1, mean and average precision, TP / (TP + FP + FN), are means over ten thresholds: IoU 0.5 to 0.95.",
    "Panoptic quality is SQ, the mean IoU of the pairs, times RQ, which is F1. A predicted object that is mostly "
    "ignored pixels counts only if it matches.",
    "Count error is the mean absolute error of the number of predicted objects per image; count bias is the mean "
    "signed error: too many (+) or too few (-).",
)


VAL_SCORES_NOTE = (
    "on the validation split, as there is no test split. Epoch, thresholds and postprocessing were chosen on it, so "
    "the scores are optimistic."
)


def _scored_split(scores: dict[str, Any] | None) -> str:
    """The split that was scored."""
    return (scores or {}).get("split", "test")


def scoring_note(scores: dict[str, Any]) -> str:
    """One line that says how the scores were computed."""
    interval_note = (
        f"; below each score its {100 * scores['confidence']:.0f} % confidence interval"
        if scores.get("mean_dice_interval")
        else ""
    )
    return f"Aggregation: {scores['aggregation']}; empty policy: {scores['empty_policy']}{interval_note}."


def score_meanings(scores: dict[str, Any]) -> list[str]:
    """Sentences that explain how the scores were computed."""
    missed = "A missed object or a false positive scores 0 under every policy."
    sentences = [
        f"Aggregation `{scores['aggregation']}`: {AGGREGATIONS[scores['aggregation']]}",
        f"Empty policy `{scores['empty_policy']}`: {POLICIES[scores['empty_policy']]} {missed}",
        "All scores are computed at the native size of the images, "
        + (
            VAL_SCORES_NOTE
            if _scored_split(scores) == "val"
            else "on the test split, which was not used for training or for any choice."
        ),
    ]
    if scores.get("mean_dice_interval"):
        sentences.insert(
            2,
            f"The {100 * scores['confidence']:.0f} % interval comes from resampling {scores['num_groups']:,} groups "
            "with replacement. It shows how much the mean would vary with other groups of the same kind, not what "
            "to expect on another data set.",
        )
    return sentences


def measure_meanings(scores: dict[str, Any]) -> list[str]:
    """Sentences that explain the columns of the table of scores by class."""
    unit = scores.get("distance_unit", "pixels")
    sentences = [
        "Dice = 2 TP / (2 TP + FP + FN) and IoU = TP / (TP + FP + FN), in pixels; precision is the share "
        "of predicted pixels that are correct, recall the share of true pixels that are predicted."
    ]
    if "boundary_width" in scores:
        sentences.append(
            f"Boundary IoU: IoU of bands along the borders, whose width is {scores['boundary_width']:g} of the image "
            "diagonal."
        )
    if "tolerance" in scores:
        sentences.append(f"Surface Dice: share of both outlines within {scores['tolerance']:g} {unit} of the other.")
        sentences.append(f"HD95: 95th percentile of the distances between the outlines, in {unit}; lower is better.")
    return sentences


def limits(results: Results, details: ModelCardDetails, *, phantom: bool) -> list[str]:
    """Sentences to read before relying on the scores."""
    sentences = [*_data_limits(results, details, phantom), *_split_limits(results)]
    if results.test_scores is not None:
        sentences += _score_limits(results, results.test_scores)
    sentences += [*_training_limits(results), *details.limits]
    return [
        *sentences,
        f"The scores hold for images of the same kind and source as the {_scored_split(results.test_scores)} split "
        "and say little about others.",
    ]


def _data_limits(results: Results, details: ModelCardDetails, phantom: bool) -> Iterator[str]:
    if phantom:
        yield "The data is a synthetic phantom: its scores say nothing about patients or other real images."
    if details.ground_truth_is_model_output:
        yield (
            "The ground truth was made by another model. A high score shows that this model imitates the other, "
            "including its errors, not that its masks are correct."
        )
    dropped = int((results.findings["action"] == "dropped").sum())
    if dropped:
        yield f"{plural(dropped, 'finding')} removed inputs; these were neither trained on nor scored."
    leaks = int((results.findings["rule"] == "leak_between_splits").sum())
    if leaks:
        yield f"{plural(leaks, 'leak')} between the splits: the test split contains data that the model was trained on."


def _split_limits(results: Results) -> Iterator[str]:
    manifest = results.manifest
    for split in ("train", "val", "test"):
        part = manifest[manifest["split"] == split]
        absent = [name for name in results.classes if not (part[f"area_{name}"] > 0).any()]
        if part.empty:
            scored = split == "test" and _scored_split(results.test_scores) == "val"
            yield f"The {split} split is empty." + f" All scores are {VAL_SCORES_NOTE}" * scored
        elif absent:
            yield f"Classes without a mask in the {split} split {EFFECT_OF_ABSENCE[split]}: {join_words(absent)}."
    groups = manifest.groupby("split")["group"].nunique()
    if groups.get("val", 2) == 1:
        yield "Epoch, thresholds and postprocessing were chosen on a single group: the validation split has only one."


def _score_limits(results: Results, scores: dict[str, Any]) -> Iterator[str]:
    groups, split = results.num_groups, _scored_split(scores)
    if groups == 1:
        yield (
            f"All {split} images belong to one group, so there is no confidence interval: how scores vary between "
            "groups is unknown."
        )
    elif groups < FEW_GROUPS:
        yield f"The {split} split has only {groups} groups: intervals from so few are rough and often too narrow."
    rare = [name for name, one in scores["classes"].items() if 0 < one["num_images"] < FEW_IMAGES]
    if rare:
        yield f"Classes in fewer than {FEW_IMAGES} {split} images, with uncertain scores: {join_words(rare)}."
    uncertain = [
        name
        for name, one in scores["classes"].items()
        if None not in (one.get("dice_interval") or [None])
        and one["dice_interval"][1] - one["dice_interval"][0] > WIDE_INTERVAL
    ]
    if uncertain:
        yield f"Classes whose Dice interval is wider than {WIDE_INTERVAL:g}: {join_words(uncertain)}."


def _training_limits(results: Results) -> Iterator[str]:
    best = results.best_epoch()
    if best is None or results.training_history is None:
        return
    history = results.training_history
    if "fold" in history and history["fold"].nunique() > 1:
        return  # each fold has its own best epoch
    if len(history) > 1 and best["epoch"] == history.dropna(subset=["val_dice"])["epoch"].max():
        yield (
            f"The best epoch is the last one ({best['epoch']:.0f}): validation Dice may still be rising, and "
            "longer training may score higher."
        )
    if best["train_dice"] - best["val_dice"] > OVERFIT_GAP:
        yield (
            f"Dice on the training images ({score(best['train_dice'])}) is far above that on the validation images "
            f"({score(best['val_dice'])}): the model overfits."
        )
