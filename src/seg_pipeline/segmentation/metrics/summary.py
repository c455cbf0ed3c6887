"""Scores with confidence intervals from counts, as plain values (None if undefined)."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.metrics.aggregation import Aggregator, defined_mean
from seg_pipeline.segmentation.metrics.confidence_intervals import group_sums, interval
from seg_pipeline.segmentation.metrics.overlap import ImageCounts


def summary(
    counts: ImageCounts,
    names: list[str],
    groups: pd.Series,
    *,
    scores: Sequence[str],
    aggregator: Aggregator,
    confidence: float,
) -> dict:
    """Each score's mean over classes (``mean_<score>``) and value per class (under "classes"), with intervals.

    Means leave out classes without a score. With a single group there is no interval.
    """
    classes: dict[str, dict] = {name: {} for name in names}
    means: dict = {}
    for score in scores:
        add_score(means, classes, score, aggregator.estimate(counts, score, groups), confidence)
    for name, number in zip(names, shown(counts).sum(0).tolist(), strict=True):
        classes[name]["num_images"] = number
    return {**means, "classes": classes}


def add_score(
    means: dict, classes: dict[str, dict], score: str, estimate: tuple[np.ndarray, np.ndarray], confidence: float
) -> None:
    """Add a score (C,) with its resamples (repeats, C): the mean over classes, and the value of each class."""
    overall, resampled = estimate
    means |= described(f"mean_{score}", defined_mean(overall), defined_mean(resampled), confidence)
    for index, class_scores in enumerate(classes.values()):
        class_scores.update(described(score, overall[index], resampled[:, index], confidence))


def table_by(
    counts: ImageCounts, names: list[str], keys: pd.Series, *, scores: Sequence[str], aggregator: Aggregator
) -> pd.DataFrame:
    """One row per key (in order of appearance) and class: key, class, num_images that show the class, scores."""
    _, labels = pd.factorize(keys)
    number = group_sums(shown(counts).astype(float), keys).astype(int)
    values = {score: aggregator.value(aggregator.sums(counts, score, keys)) for score in scores}
    parts = [
        pd.DataFrame(
            {str(keys.name): labels, "class": name, "num_images": number[:, index]}
            | {score: column_values[:, index] for score, column_values in values.items()}
        )
        for index, name in enumerate(names)
    ]
    return pd.concat(parts, ignore_index=True)


def shown(counts: ImageCounts) -> np.ndarray:
    """Whether each image's ground truth shows each class: bool (N, C)."""
    return (counts.true_pos + counts.false_neg > 0).numpy()


def described(name: str, value: float, resampled: np.ndarray, confidence: float) -> dict:
    """A score and its interval, by name."""
    low, high = interval(resampled, confidence=confidence)
    return {name: plain(value), f"{name}_interval": None if math.isnan(low) else [low, high]}


def plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
