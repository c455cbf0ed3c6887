"""Score of the UW-Madison GI tract competition (Kaggle 2022): 0.4 x mean Dice + 0.6 x (1 - mean 3D Hausdorff).

Its sources disagree on edge cases, so each variant has a name here and all are reported. The Hausdorff distance is
computed on each series' volume in coordinates divided by its numbers of frames, rows and columns, and is at most 1;
volumes that are empty in both ground truth and prediction are left out of the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seg_pipeline.segmentation.metrics.surface_distances import bounding_box, distances, pixels


@dataclass(frozen=True)
class Rules:
    """One variant of the score."""

    both_empty: Literal["zero", "skip"]
    """Dice if ground truth and prediction are both empty."""
    truth_empty: Literal["zero", "skip"] = "zero"
    """Dice if only the ground truth is empty; skip makes false positives on empty images free."""
    one_empty: Literal["worst", "skip"] = "worst"
    """Hausdorff distance if only one of the two is empty."""
    by_diagonal: bool = False
    """Divide distances by the diagonal of the unit cube, √3."""
    merged: bool = False
    """Compare one volume of all classes together instead of one per class."""
    most_times: float = math.inf
    """A prediction with more than this many times the true voxels gets the worst distance."""


VARIANTS = {
    "text": Rules(both_empty="zero"),
    "host_comment": Rules(both_empty="skip"),
    "organiser_note": Rules(both_empty="skip", truth_empty="skip", one_empty="skip"),
    "mle_bench": Rules(both_empty="skip", by_diagonal=True, merged=True, most_times=10),
}
"""text: the competition's page; host_comment: discussion 324934 there; organiser_note: the evaluation code that the
organisers published later; mle_bench: `grade.py` of openai/mle-bench."""


@dataclass(frozen=True)
class Volume:
    """Ground truth and prediction of a series, for one class or for all classes together."""

    predicted: int
    """Predicted voxels."""
    true: int
    """True voxels."""
    distance: float
    """Hausdorff distance in the unit cube: the largest distance from a voxel of one mask to the nearest of the other;
    NaN if either mask is empty."""

    @classmethod
    def of(cls, predicted: np.ndarray, truth: np.ndarray, shape: tuple[int, int, int]) -> Volume:
        """Compare bool masks (D, H, W); they may leave out empty frames at the ends of a volume of ``shape``."""
        sizes = pixels(predicted), pixels(truth)
        if not all(sizes):
            return cls(*sizes, math.nan)
        frames, rows, columns = shape
        box = bounding_box(predicted | truth)
        one, other = predicted[box], truth[box]
        spacing = 1 / frames, 1 / rows, 1 / columns
        both_directions = [distances(a & ~b, b, spacing) for a, b in ((one, other), (other, one)) if (a & ~b).any()]
        return cls(*sizes, float(max((distances_one_way.max() for distances_one_way in both_directions), default=0.0)))


def competition_score(dice: np.ndarray, truth_empty: np.ndarray, volumes: list[Volume], rules: Rules) -> float:
    """The score, higher is better; NaN if one of its two means is over nothing.

    Args:
        dice: per image and class; NaN if both masks are empty.
        truth_empty: bool of the same shape, whether the ground truth lacks the class.
        volumes: one per series and class; if ``rules.merged``, one per series.
        rules: the variant to compute.
    """
    if rules.both_empty == "zero":
        dice = np.nan_to_num(dice)
    if rules.truth_empty == "skip":
        dice = np.where(truth_empty, math.nan, dice)
    hausdorff = [distance for volume in volumes if not math.isnan(distance := _distance(volume, rules))]
    defined = dice[~np.isnan(dice)]
    if not (defined.size and hausdorff):
        return math.nan
    return float(0.4 * defined.mean() + 0.6 * (1 - np.mean(hausdorff)))


def _distance(volume: Volume, rules: Rules) -> float:
    if not volume.predicted and not volume.true:
        return math.nan
    if math.isnan(volume.distance):
        return 1.0 if rules.one_empty == "worst" else math.nan
    if volume.predicted > rules.most_times * volume.true:
        return 1.0
    return min(volume.distance / (math.sqrt(3) if rules.by_diagonal else 1.0), 1.0)
