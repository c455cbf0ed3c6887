"""How well the flag "look at this" finds the images that need a person."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.metrics.confidence_intervals import group_sums, interval, resampled_sums

RATES = {"catch": ("caught", "low"), "precision": ("caught", "flagged"), "flagged": ("flagged", "all")}
"""Numerator and denominator of each rate."""


def score_flags(
    image_scores: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    dice_below: float,
    repeats: int,
    seed: int,
    confidence: float,
) -> dict | None:
    """Compare the flags with the Dice of each image, the mean over its classes; None if there are no flags.

    Args:
        image_scores: one row per image and class: image_id, group, dice.
        predictions: one row per image: image_id, uncertainty, look_at_this.
        dice_below: an image with a lower Dice needs a person; an image without a Dice shows nothing and needs none.
        repeats, seed, confidence: settings of the intervals, which resample groups.

    Returns:
        num_images, num_low, caught, missed, false_alarms; catch (share of the low images that are flagged), precision
        (share of the flagged images that are low), flagged (share of all images), each with ``_interval``; and
        rank_correlation of certainty and Dice (Spearman's).
    """
    if "look_at_this" not in predictions or predictions["look_at_this"].isna().any():
        return None
    images = image_scores.groupby("image_id", sort=False).agg(group=("group", "first"), dice=("dice", "mean"))
    table = images.join(predictions.set_index("image_id")[["uncertainty", "look_at_this"]])
    low, flag = (table["dice"] < dice_below).to_numpy(), table["look_at_this"].to_numpy(dtype=bool)
    counts = {"caught": low & flag, "low": low, "flagged": flag, "all": np.ones(len(table), dtype=bool)}
    sums = group_sums(np.stack(list(counts.values()), axis=1).astype(float), table["group"])
    resampled = resampled_sums(sums, repeats=repeats if len(sums) > 1 else 0, seed=seed)
    result: dict[str, Any] = {
        "dice_below": dice_below,
        "num_images": len(table),
        "num_low": int(low.sum()),
        "caught": int((low & flag).sum()),
        "missed": int((low & ~flag).sum()),
        "false_alarms": int((flag & ~low).sum()),
        "rank_correlation": _rank_correlation(table.dropna(subset="dice")),
    }
    names = list(counts)
    for rate, (numerator, denominator) in RATES.items():
        values = [
            _share(counted[names.index(numerator)], counted[names.index(denominator)])
            for counted in (sums.sum(0), *resampled)
        ]
        low_end, high_end = interval(np.array(values[1:]), confidence=confidence)
        result[rate] = None if math.isnan(values[0]) else values[0]
        result[f"{rate}_interval"] = None if math.isnan(low_end) else [low_end, high_end]
    return result


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _rank_correlation(table: pd.DataFrame) -> float | None:
    ranks = table[["uncertainty", "dice"]].rank()
    return -float(ranks["uncertainty"].corr(ranks["dice"])) if ranks.nunique().min() > 1 else None
