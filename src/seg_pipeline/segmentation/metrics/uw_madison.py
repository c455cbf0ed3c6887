"""Score of the UW-Madison GI tract competition (Kaggle 2022): 0.4 x mean Dice + 0.6 x (1 - mean 3D Hausdorff).

Its sources disagree on the corners, so each reading has a name here, and each is given. The Hausdorff distance is
taken of each series' volume in coordinates divided by its numbers of frames, rows and columns, and is 1 at most;
volumes that neither truth nor prediction shows are left out of its mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seg_pipeline.segmentation.metrics.surface_distances import bounding_box, distances, pixels


@dataclass(frozen=True)
class Rules:
    """One reading of the corners."""

    both_empty: Literal["zero", "skip"]
    """Dice of an image's class that neither truth nor prediction shows."""
    truth_empty: Literal["zero", "skip"] = "zero"
    """Dice where truth alone is empty; skip makes false positives on empty images free."""
    one_empty: Literal["worst", "skip"] = "worst"
    """Hausdorff distance where truth or prediction is empty."""
    by_diagonal: bool = False
    """Distances are divided by the diagonal of the unit cube, the root of 3."""
    merged: bool = False
    """One volume of all classes together in place of one a class."""
    most_times: float = math.inf
    """A prediction of more than so many times the true voxels has the worst distance."""


READINGS = {
    "text": Rules(both_empty="zero"),
    "host_comment": Rules(both_empty="skip"),
    "organiser_note": Rules(both_empty="skip", truth_empty="skip", one_empty="skip"),
    "mle_bench": Rules(both_empty="skip", by_diagonal=True, merged=True, most_times=10),
}
"""text: the competition's page; host_comment: discussion 324934 there; organiser_note: the evaluation code that the
organisers published later; mle_bench: `grade.py` of openai/mle-bench."""


@dataclass(frozen=True)
class Volume:
    """Truth and prediction of a series beside each other, of one class or of all together."""

    predicted: int
    """Voxels."""
    true: int
    distance: float
    """Largest distance from a voxel of one to the nearest of the other, in the unit cube; NaN without both."""

    @classmethod
    def of(cls, predicted: np.ndarray, truth: np.ndarray, shape: tuple[int, int, int]) -> Volume:
        """Of bool masks (D, H, W), which may leave out empty frames at the ends of a volume of ``shape``."""
        sizes = pixels(predicted), pixels(truth)
        if not all(sizes):
            return cls(*sizes, math.nan)
        frames, rows, columns = shape
        box = bounding_box(predicted | truth)
        one, other = predicted[box], truth[box]
        spacing = 1 / frames, 1 / rows, 1 / columns
        ways = [distances(a & ~b, b, spacing) for a, b in ((one, other), (other, one)) if (a & ~b).any()]
        return cls(*sizes, float(max((way.max() for way in ways), default=0.0)))


def competition_score(dice: np.ndarray, truth_empty: np.ndarray, volumes: list[Volume], rules: Rules) -> float:
    """Higher is better; NaN where one of the two means has nothing to be taken of.

    Args:
        dice: of each image and class, NaN where both masks are empty.
        truth_empty: bool, of the same shape: the truth does not show the class.
        volumes: of each series and class, or for ``rules.merged`` of each series.
        rules: the reading.
    """
    if rules.both_empty == "zero":
        dice = np.nan_to_num(dice)
    if rules.truth_empty == "skip":
        dice = np.where(truth_empty, math.nan, dice)
    hausdorff = [one for volume in volumes if not math.isnan(one := _distance(volume, rules))]
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
