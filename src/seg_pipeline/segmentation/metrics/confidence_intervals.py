"""Confidence intervals by resampling groups.

The images of a patient or a drive are alike, so that a hundred of them tell less than a hundred patients do:
whole groups are drawn with replacement, as often as there are groups, and the score is taken anew each time
(cluster bootstrap; Davison and Hinkley 1997, section 3.8). The interval holds the middle of these scores.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

FEW_GROUPS = 10
"""With fewer the interval is too narrow: they cannot show how much groups differ."""

AT_ONCE = 2_000_000
"""Draws held in memory at a time."""


def group_sums(values: np.ndarray, groups: pd.Series | np.ndarray) -> np.ndarray:
    """Sums of the rows (N, M) of each group: float64 (G, M)."""
    codes, names = pd.factorize(np.asarray(groups))
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


def resampled_sums(sums: np.ndarray, *, repeats: int, seed: int) -> np.ndarray:
    """Sums over drawn groups: float64 (repeats, M) from those of each group (G, M)."""
    rng, number = np.random.default_rng(seed), len(sums)
    parts = []
    for begin in range(0, repeats, step := max(1, AT_ONCE // max(number, 1))):
        drawn = min(step, repeats - begin)
        places = rng.integers(number, size=(drawn, number)) + np.arange(drawn)[:, None] * number
        weights = np.bincount(places.ravel(), minlength=drawn * number).reshape(drawn, number)
        parts.append(weights @ sums)
    return np.concatenate(parts) if parts else np.zeros((0, sums.shape[1]))


def interval(resampled: np.ndarray, *, confidence: float) -> tuple[float, float]:
    """The middle share of the scores that are defined; NaN where none is."""
    defined = resampled[~np.isnan(resampled)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
