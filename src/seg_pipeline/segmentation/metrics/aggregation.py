"""Scores as ratios of sums, so that images, groups and bootstrap resamples are aggregated by the same code.

Axes: N images, C classes. The score of one image is part / whole. The score of several images is the mean of their
scores (aggregation "image"), or the sum of the parts over the sum of the wholes ("dataset").
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
"""``Counts`` lack border pixels and distances, so they only serve overlap scores."""


class Ratio(NamedTuple):
    """Numerators and denominators of a score: float64 (N, C), or sums of those over images."""

    part: np.ndarray
    whole: np.ndarray
    shown: np.ndarray
    """0 if the class is in neither mask, so that the empty policy decides; otherwise a whole of 0 scores 0."""

    @classmethod
    def of(cls, part: Any, whole: Any, shown: Any = None) -> Ratio:
        """Ratio of arrays or tensors of integers; ``shown`` defaults to the whole."""
        return cls(*(np.asarray(values, dtype=float) for values in (part, whole, whole if shown is None else shown)))

    def value(self, if_empty: float) -> np.ndarray:
        empty_scores = np.where(self.shown > 0, 0.0, if_empty)
        return np.divide(self.part, self.whole, out=empty_scores, where=self.whole > 0)


RATIOS: dict[str, Callable[[Any], tuple]] = {
    "dice": dice_ratio,
    "iou": iou_ratio,
    # Precision is 0 without a prediction; otherwise a model could raise its mean by missing a class.
    "precision": lambda c: (c.true_pos, c.true_pos + c.false_pos, c.true_pos + c.false_pos + c.false_neg),
    "recall": lambda c: (c.true_pos, c.true_pos + c.false_neg),
    "boundary_iou": lambda c: (c.boundary_both, c.boundary_either),
    "surface_dice": lambda c: (c.surface_near, c.surface_all),
}
"""Part, whole and, if it differs from the whole, ``Ratio.shown``."""

SCORES = (*RATIOS, "hd95")


def image_values(counts: AnyCounts, score: str, *, empty_policy: EmptyPolicy) -> np.ndarray:
    """Score of each image and class: float64 (N, C), NaN if undefined.

    If both masks are empty, ``empty_policy`` decides. For the distance hd95, "one" gives the best value (0) and
    "zero" the worst (the image diagonal).
    """
    if score != "hd95":
        return Ratio.of(*RATIOS[score](counts)).value(IF_EMPTY[empty_policy])
    assert isinstance(counts, ImageCounts), "hd95 needs ImageCounts"
    values, diagonal = counts.hd95.numpy(), counts.diagonal.numpy()[:, None]
    if empty_policy == "skip":
        return values
    return np.where(np.isnan(values), 0.0 if empty_policy == "one" else diagonal, values)


def as_mean(values: np.ndarray) -> Ratio:
    """Ratios whose sum has the mean of the values, without NaN, as its ``value``."""
    is_defined = (~np.isnan(values)).astype(float)
    return Ratio(np.nan_to_num(values), is_defined, is_defined)


def _sums(ratios: Ratio, keys: pd.Series) -> Ratio:
    return Ratio(*(group_sums(part, keys) for part in ratios))


class Aggregator(NamedTuple):
    """Aggregates scores over images and resamples groups for confidence intervals."""

    aggregation: Aggregation
    empty_policy: EmptyPolicy
    repeats: int
    seed: int

    @classmethod
    def from_settings(cls, scores: ScoreSettings, measures: MeasureSettings, seed: int) -> Aggregator:
        return cls(scores.aggregation, scores.empty_policy, measures.repeats, seed)

    def sums(self, counts: AnyCounts, score: str, keys: pd.Series) -> Ratio:
        """Sums of ratios per key: (G, C), keys in order of appearance. Distances are always averaged over images."""
        if self.aggregation == "dataset" and score != "hd95":
            return _sums(Ratio.of(*RATIOS[score](counts)), keys)
        return _sums(as_mean(image_values(counts, score, empty_policy=self.empty_policy)), keys)

    def value(self, sums: Ratio) -> np.ndarray:
        """Score of each of the ``sums``, or of their total over some keys."""
        return sums.value(IF_EMPTY[self.empty_policy] if self.aggregation == "dataset" else math.nan)

    def estimate(self, counts: AnyCounts, score: str, groups: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """Score of all images (C,), and of each bootstrap resample (repeats, C); no resamples if there is one group.

        The same groups give the same resamples, so differences between two estimates are paired.
        """
        return self._estimate(self.sums(counts, score, groups))

    def estimate_ratio(self, ratios: Ratio, groups: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """``estimate`` of any other score, from its ratios per image."""
        if self.aggregation == "image":
            ratios = as_mean(ratios.value(IF_EMPTY[self.empty_policy]))
        return self._estimate(_sums(ratios, groups))

    def _estimate(self, sums: Ratio) -> tuple[np.ndarray, np.ndarray]:
        repeats = self.repeats if len(sums.part) > 1 else 0
        resampled = resampled_sums(np.concatenate(sums, axis=1), repeats=repeats, seed=self.seed)
        total = Ratio(*(part.sum(0) for part in sums))
        return self.value(total), self.value(Ratio(*np.split(resampled, 3, axis=1)))


def defined_mean(values: np.ndarray) -> Any:
    """Mean over the last axis, ignoring NaN; NaN if every value is NaN (without numpy's warning)."""
    is_defined = ~np.isnan(values)
    number = is_defined.sum(-1)
    return np.where(number > 0, np.nan_to_num(values).sum(-1) / np.maximum(number, 1), math.nan)
