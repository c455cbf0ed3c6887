"""Confidence intervals by resampling groups.

Images of one patient or drive are similar: a hundred of them say less than a hundred patients. So whole groups are
drawn with replacement, as many as there are groups, and the score is recomputed for each draw (cluster bootstrap;
Davison and Hinkley 1997, section 3.8). The interval is a central percentile interval of these scores.
"""

import math

import numpy as np
import pandas as pd

FEW_GROUPS = 10
"""With fewer groups the interval is too narrow, because they do not show how much groups differ."""

AT_ONCE = 2_000_000
"""Number of drawn groups to hold in memory at once."""


def group_sums(values: np.ndarray, groups: pd.Series | np.ndarray) -> np.ndarray:
    """Sum the rows (N, M) per group: float64 (G, M), groups in order of appearance."""
    codes, names = pd.factorize(np.asarray(groups))
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


def resampled_sums(sums: np.ndarray, *, repeats: int, seed: int) -> np.ndarray:
    """Sums over resampled groups: float64 (repeats, M) from the sums per group (G, M)."""
    rng, number = np.random.default_rng(seed), len(sums)
    parts = []
    for first in range(0, repeats, step := max(1, AT_ONCE // max(number, 1))):
        num_draws = min(step, repeats - first)
        drawn_groups = rng.integers(number, size=(num_draws, number)) + np.arange(num_draws)[:, None] * number
        weights = np.bincount(drawn_groups.ravel(), minlength=num_draws * number).reshape(num_draws, number)
        parts.append(weights @ sums)
    return np.concatenate(parts) if parts else np.zeros((0, sums.shape[1]))


def interval(resampled: np.ndarray, *, confidence: float) -> tuple[float, float]:
    """Central percentile interval of the scores that are not NaN; (NaN, NaN) if there are none."""
    defined = resampled[~np.isnan(resampled)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
