"""Scores as ratios of counts, so that images, groups and resamples of groups are put together alike.

Axes: N images, C classes. A score of one image is part / whole; over images it is the mean of these ("image"), or
the sum of the parts over the sum of the wholes ("dataset").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.metrics.confidence_intervals import group_sums, resampled_sums
from seg_pipeline.segmentation.metrics.overlap import IF_EMPTY, Counts, ImageCounts, dice_ratio, iou_ratio
from seg_pipeline.segmentation.settings.training import Aggregation, EmptyPolicy, MeasureSettings, ScoreSettings

AnyCounts = Counts | ImageCounts
"""``Counts`` have no borders, so no score of them."""


class Ratio(NamedTuple):
    """Float64, (N, C) or whatever they were summed to."""

    part: np.ndarray
    whole: np.ndarray
    shown: np.ndarray
    """Where this is 0 the score is a matter of policy; where it is not, a whole of 0 scores 0."""

    def value(self, if_empty: float) -> np.ndarray:
        nothing = np.where(self.shown > 0, 0.0, if_empty)
        return np.divide(self.part, self.whole, out=nothing, where=self.whole > 0)


RATIOS: dict[str, Callable[[Any], tuple]] = {
    "dice": dice_ratio,
    "iou": iou_ratio,
    # Without a prediction, precision is 0 and not left out; otherwise missing an image would raise the mean.
    "precision": lambda c: (c.true_pos, c.true_pos + c.false_pos, c.true_pos + c.false_pos + c.false_neg),
    "recall": lambda c: (c.true_pos, c.true_pos + c.false_neg),
    "boundary_iou": lambda c: (c.boundary_both, c.boundary_either),
    "surface_dice": lambda c: (c.surface_near, c.surface_all),
}
"""Part, whole and, where it is not the whole, what has to be there for the score to be defined."""

SCORES = (*RATIOS, "hd95")


def ratio(counts: AnyCounts, score: str) -> Ratio:
    """Of each image and class; ``score`` is one of ``RATIOS``."""
    part, whole, *shown = RATIOS[score](counts)
    return Ratio(*(value.double().numpy() for value in (part, whole, *(shown or [whole]))))


def image_values(counts: AnyCounts, score: str, *, empty_policy: EmptyPolicy) -> np.ndarray:
    """Each image's score of each class: float64 (N, C), NaN where it has none.

    Where both masks are empty the policy's score; for the distance hd95 that is the best (0) for "one" and the
    worst (the image's diagonal) for "zero".
    """
    if score != "hd95":
        return ratio(counts, score).value(IF_EMPTY[empty_policy])
    assert isinstance(counts, ImageCounts), "distances are not among the counts"
    values, diagonal = counts.hd95.numpy(), counts.diagonal.numpy()[:, None]
    if empty_policy == "skip":
        return values
    return np.where(np.isnan(values), 0.0 if empty_policy == "one" else diagonal, values)


def addable(counts: AnyCounts, score: str, *, aggregation: Aggregation, empty_policy: EmptyPolicy) -> Ratio:
    """The score of any set of these images is ``value`` of their sum. A distance is always a mean over images."""
    if aggregation == "dataset" and score != "hd95":
        return ratio(counts, score)
    values = image_values(counts, score, empty_policy=empty_policy)
    there = (~np.isnan(values)).astype(float)
    return Ratio(np.nan_to_num(values), there, there)


def value_of(sums: Ratio, *, aggregation: Aggregation, empty_policy: EmptyPolicy) -> np.ndarray:
    """Score of what ``addable`` gave, summed."""
    return sums.value(IF_EMPTY[empty_policy] if aggregation == "dataset" else math.nan)


class Way(NamedTuple):
    """How images are put together, and how often groups are drawn anew for intervals."""

    aggregation: Aggregation
    empty_policy: EmptyPolicy
    repeats: int
    seed: int

    @classmethod
    def of(cls, scores: ScoreSettings, measures: MeasureSettings, seed: int) -> Way:
        return cls(scores.aggregation, scores.empty_policy, measures.repeats, seed)

    def sums(self, counts: AnyCounts, score: str, keys: pd.Series) -> Ratio:
        """Of each key (G, C), in order of appearance."""
        parts = addable(counts, score, aggregation=self.aggregation, empty_policy=self.empty_policy)
        return Ratio(*(group_sums(part, keys) for part in parts))

    def value(self, sums: Ratio) -> np.ndarray:
        return value_of(sums, aggregation=self.aggregation, empty_policy=self.empty_policy)

    def estimate(self, counts: AnyCounts, score: str, groups: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """Of all images (C,), and of each resample (repeats, C), of which there is none where there is one group.

        Resamples of equal groups are equal, so that differences between two estimates are paired.
        """
        sums = self.sums(counts, score, groups)
        repeats = self.repeats if len(sums.part) > 1 else 0
        drawn = resampled_sums(np.concatenate(sums, axis=1), repeats=repeats, seed=self.seed)
        whole = Ratio(*(part.sum(0) for part in sums))
        return self.value(whole), self.value(Ratio(*np.split(drawn, 3, axis=1)))


def defined_mean(values: np.ndarray) -> Any:
    """Mean over the last axis of what is no NaN; NaN where all is."""
    there = ~np.isnan(values)
    number = there.sum(-1)
    return np.where(number > 0, np.nan_to_num(values).sum(-1) / np.maximum(number, 1), math.nan)
