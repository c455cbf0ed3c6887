"""What the numbers mean, and what they cannot mean, in sentences computed from a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from seg_pipeline.segmentation.metrics.confidence_intervals import FEW_GROUPS
from seg_pipeline.segmentation.report.results import Results, listed, plural, score
from seg_pipeline.segmentation.settings.model_card import ModelCardDetails

FEW_IMAGES = 10
GAP = 0.15
"""Train Dice above validation Dice from which a model has learnt its training images by heart."""
WIDE = 0.2
"""Width of an interval from which the mean says little."""

AGGREGATIONS = {
    "image": "Each image is scored, and the mean over images taken, class by class; then the mean over classes.",
    "dataset": "The pixels of all images are counted together and scored once, class by class; then the mean over "
    "classes. Large objects weigh more than small ones.",
}
POLICIES = {
    "skip": "An image that shows a class neither in truth nor in prediction says nothing about it and is left out.",
    "zero": "An image that shows a class neither in truth nor in prediction scores 0 for it: rare classes look bad.",
    "one": "An image that shows a class neither in truth nor in prediction scores 1 for it: classes that are rare in "
    "the images look good.",
}
WITHOUT = {
    "train": "cannot be learnt",
    "val": "had no part in any choice",
    "test": "score 0 where they are predicted all the same, and else nothing",
}
"""What becomes of classes that a split does not show."""
MEASURES = (
    ("dice", "Dice"),
    ("iou", "IoU"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("boundary_iou", "boundary IoU"),
    ("surface_dice", "surface Dice"),
    ("hd95", "HD95"),
)
"""Keys of a class in the test scores, and their headings."""


def taken(scores: dict[str, Any]) -> str:
    """How the numbers at the top were taken, in a line that stands beside them."""
    sure = f"; in small print: {100 * scores['confidence']:.0f} % interval" if scores.get("mean_dice_interval") else ""
    return f"Aggregation: {scores['aggregation']}; empty policy: {scores['empty_policy']}{sure}."


def score_meanings(scores: dict[str, Any]) -> list[str]:
    """How the numbers at the top were taken."""
    missed = "An object that is missed, or found where there is none, scores 0 under every policy."
    said = [
        f"Aggregation `{scores['aggregation']}`: {AGGREGATIONS[scores['aggregation']]}",
        f"Empty policy `{scores['empty_policy']}`: {POLICIES[scores['empty_policy']]} {missed}",
        "All scores are taken at the images' own size, on the test split, on which nothing was trained or chosen.",
    ]
    if scores.get("mean_dice_interval"):
        said.insert(
            2,
            f"Interval: {100 * scores['confidence']:.0f} %, by drawing {scores['num_groups']:,} groups with "
            "replacement again and again. It says how far the mean would move with other groups of the same kind, "
            "not what another data set would give.",
        )
    return said


def measure_meanings(scores: dict[str, Any]) -> list[str]:
    """What the columns of the table of classes are."""
    unit = scores.get("distance_unit", "pixels")
    said = [
        "Dice = 2 TP / (2 TP + FP + FN) and IoU = TP / (TP + FP + FN), with pixels counted; precision is the share "
        "of predicted pixels that are right, recall the share of true pixels that are found."
    ]
    if "boundary_width" in scores:
        said.append(
            f"Boundary IoU: the IoU of the rims only, {scores['boundary_width']:g} of the image's diagonal wide."
        )
    if "tolerance" in scores:
        said.append(
            f"Surface Dice: share of both outlines that lies within {scores['tolerance']:g} {unit} of the other."
        )
        said.append(f"HD95: distance in {unit} within which 95 % of each outline lies of the other; less is better.")
    return said


def limits(results: Results, about: ModelCardDetails, *, phantom: bool) -> list[str]:
    """What a reader must know before relying on the scores."""
    said = [*_of_data(results, about, phantom), *_of_splits(results)]
    if results.test_scores is not None:
        said += _of_scores(results, results.test_scores)
    said += [*_of_training(results), *about.limits]
    return [
        *said,
        "The scores hold for images of the same kind and source as the test split; for others they say little.",
    ]


def _of_data(results: Results, about: ModelCardDetails, phantom: bool) -> Iterator[str]:
    if phantom:
        yield "The data is a drawn phantom: no score on it says anything about patients or other real images."
    if about.truth_is_model_output:
        yield (
            "The truth was made by another model. A high score shows that this model is imitated, its errors included, "
            "not that the masks are right."
        )
    dropped = int((results.findings["action"] == "dropped").sum())
    if dropped:
        yield f"{plural(dropped, 'finding')} dropped a part of the input; nothing of it was trained on or scored."
    leaks = int((results.findings["rule"] == "leak_between_splits").sum())
    if leaks:
        yield f"{plural(leaks, 'leak')} between the splits: what the model was trained on lies in the test split too."


def _of_splits(results: Results) -> Iterator[str]:
    manifest = results.manifest
    for split in ("train", "val", "test"):
        part = manifest[manifest["split"] == split]
        absent = [name for name in results.classes if not (part[f"area_{name}"] > 0).any()]
        if part.empty:
            yield f"The {split} split is empty."
        elif absent:
            yield f"Classes without a mask in the {split} split {WITHOUT[split]}: {listed(absent)}."
    groups = manifest.groupby("split")["group"].nunique()
    if groups.get("val", 2) == 1:
        yield "Epoch, thresholds and postprocessing were chosen on a single group, that of the validation split."


def _of_scores(results: Results, scores: dict[str, Any]) -> Iterator[str]:
    groups = results.num_groups
    if groups == 1:
        yield "All test images are of one group: how scores vary from group to group is not known, nor any interval."
    elif groups < FEW_GROUPS:
        yield f"The test split holds only {groups} groups: intervals over so few are rough, and often too narrow."
    few = [name for name, one in scores["classes"].items() if 0 < one["num_images"] < FEW_IMAGES]
    if few:
        yield f"Classes shown by fewer than {FEW_IMAGES} test images, whose scores rest on little: {listed(few)}."
    unsure = [
        name
        for name, one in scores["classes"].items()
        if None not in (one.get("dice_interval") or [None]) and one["dice_interval"][1] - one["dice_interval"][0] > WIDE
    ]
    if unsure:
        yield f"Classes whose Dice is uncertain by more than {WIDE:g} (width of its interval): {listed(unsure)}."


def _of_training(results: Results) -> Iterator[str]:
    best = results.best_epoch()
    if best is None or results.training_history is None:
        return
    history = results.training_history
    if "fold" in history and history["fold"].nunique() > 1:
        return  # each fold has a best epoch of its own, and none stands for all
    if len(history) > 1 and best["epoch"] == history.dropna(subset=["val_dice"])["epoch"].max():
        yield (
            f"The best epoch is the last one ({best['epoch']:.0f}): validation Dice may still have been rising; "
            "a longer training may score more."
        )
    if best["train_dice"] - best["val_dice"] > GAP:
        yield (
            f"Dice on the training images ({score(best['train_dice'])}) is far above that on the validation images "
            f"({score(best['val_dice'])}): the model knows its training images better than what they show."
        )
