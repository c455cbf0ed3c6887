"""From counts to scores with intervals, as plain values (None where undefined)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.metrics.aggregation import Way, defined_mean
from seg_pipeline.segmentation.metrics.confidence_intervals import group_sums, interval
from seg_pipeline.segmentation.metrics.overlap import ImageCounts


def summary(
    counts: ImageCounts, names: list[str], groups: pd.Series, *, scores: Sequence[str], way: Way, confidence: float
) -> dict:
    """mean_<score> over classes with its interval, and the same of each class under "classes".

    A mean leaves out classes that have no score; one group gives no interval.
    """
    classes: dict[str, dict] = {name: {} for name in names}
    means: dict = {}
    for score in scores:
        whole, resampled = way.estimate(counts, score, groups)
        means |= _described(f"mean_{score}", defined_mean(whole), defined_mean(resampled), confidence)
        for index, name in enumerate(names):
            classes[name] |= _described(score, whole[index], resampled[:, index], confidence)
    for name, number in zip(names, shown(counts).sum(0).tolist(), strict=True):
        classes[name]["num_images"] = number
    return {**means, "classes": classes}


def table_by(
    counts: ImageCounts, names: list[str], keys: pd.Series, *, scores: Sequence[str], way: Way
) -> pd.DataFrame:
    """A row a key (in order of appearance) and class: the key, class, num_images that show the class, scores."""
    _, labels = pd.factorize(keys)
    number = group_sums(shown(counts).astype(float), keys).astype(int)
    values = {score: way.value(way.sums(counts, score, keys)) for score in scores}
    parts = [
        pd.DataFrame(
            {str(keys.name): labels, "class": name, "num_images": number[:, index]}
            | {score: found[:, index] for score, found in values.items()}
        )
        for index, name in enumerate(names)
    ]
    return pd.concat(parts, ignore_index=True)


def shown(counts: ImageCounts) -> np.ndarray:
    """Bool (N, C): the truth shows the class."""
    return (counts.true_pos + counts.false_neg > 0).numpy()


def _described(name: str, value: float, resampled: np.ndarray, confidence: float) -> dict:
    low, high = interval(resampled, confidence=confidence)
    return {name: plain(value), f"{name}_interval": None if math.isnan(low) else [low, high]}


def plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
