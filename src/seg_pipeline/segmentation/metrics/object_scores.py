"""Scores by object: precision, recall, F1 and average precision by IoU, panoptic quality, errors of the count.

Axes: N images, C classes, T thresholds. A true and a predicted object match at a threshold if their IoU is above it;
from 0.5 on, an object has at most one match, as objects do not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED, OBJECT_MAP, iter_records
from seg_pipeline.segmentation.metrics.aggregation import RATIOS as PIXEL_RATIOS
from seg_pipeline.segmentation.metrics.aggregation import Aggregator, Ratio, as_mean, defined_mean
from seg_pipeline.segmentation.metrics.summary import add_score, plain
from seg_pipeline.segmentation.objects.label_maps import decode_labels
from seg_pipeline.segmentation.objects.matching import THRESHOLDS, overlaps
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads, num_threads

PANOPTIC = ("pq", "sq", "rq")


class ObjectCounts(NamedTuple):
    """Objects of each image and class."""

    true_pos: np.ndarray
    """Pairs that match at each of ``THRESHOLDS``: int (N, C, T)."""
    false_pos: np.ndarray
    """Predicted objects without a match, except those that are mostly ignored pixels: int (N, C, T)."""
    false_neg: np.ndarray
    """True objects without a match: int (N, C, T)."""
    iou: np.ndarray
    """Sum of the IoU of the pairs that match at 0.5: float (N, C)."""
    known: np.ndarray
    """Whether the class is annotated in the image: bool (N, C)."""


def count_split(
    truth: pd.DataFrame, predictions: pd.DataFrame, names: list[str], *, workers: int | None = None
) -> ObjectCounts | None:
    """Counts of every image, in the order of the rows; None if the ground truth has only masks, no objects.

    Predictions without objects count as their connected components (8 neighbours).
    """
    if f"{OBJECT_MAP}{names[0]}" not in truth:
        return None

    def count(pair: tuple[dict, dict]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
        row, prediction = pair
        shape = int(row["height"]), int(row["width"])
        unknown = decode_rle(row["ignore"], shape, order="C") if row["ignore"] else None
        everywhere = np.ones(shape, dtype=bool)
        return [
            count_objects(
                _labels(prediction, name, shape),
                _labels(row, name, shape),
                everywhere if row[f"mask_{name}"] == NOT_ANNOTATED else unknown,
            )
            for name in names
        ]

    pairs = zip(iter_records(truth), iter_records(predictions), strict=True)
    images = list(map_in_threads(count, pairs, workers=num_threads(workers)))
    known = (truth[[f"mask_{name}" for name in names]] != NOT_ANNOTATED).to_numpy()
    true_pos, false_pos, false_neg, iou = (
        np.array([[one[column] for one in image] for image in images]) for column in range(4)
    )
    return ObjectCounts(true_pos, false_pos, false_neg, iou, known)


def _labels(row: dict, name: str, shape: tuple[int, int]) -> np.ndarray:
    """Label map of a class in a row of the manifest or of the predictions: int32 (H, W)."""
    objects, mask = row.get(f"{OBJECT_MAP}{name}"), row[f"mask_{name}"]
    if objects is not None or mask in ("", NOT_ANNOTATED):
        return decode_labels(objects or "", shape)
    return cv2.connectedComponents(decode_rle(mask, shape, order="C").view(np.uint8), connectivity=8)[1]


def count_objects(
    predicted: np.ndarray, truth: np.ndarray, ignored: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Matches of one image and class for ``ObjectCounts``: three arrays int (T,), and the sum of IoUs.

    Ignored pixels belong to no object. An unmatched predicted object that consists mostly of them is left out
    (Kirillov et al. 2019, section 4.2).

    Args:
        predicted, truth: number of the object at each pixel, 0 for none: int (H, W).
        ignored: bool (H, W); None: no pixel.
    """
    pairs = overlaps(truth, predicted, known=None if ignored is None else ~ignored)
    best = pairs.iou.max(0, initial=0)
    hits = best[:, None] > THRESHOLDS
    counted = np.ones(best.shape, dtype=bool)
    if ignored is not None:
        ignored_pixels, all_pixels = (
            np.bincount(labels.ravel(), minlength=predicted.max() + 1) for labels in (predicted * ignored, predicted)
        )
        counted = (2 * ignored_pixels <= all_pixels)[pairs.predicted_ids]
    true_pos = hits.sum(0)
    false_pos = (~hits & counted[:, None]).sum(0)
    return true_pos, false_pos, len(pairs.true_ids) - true_pos, float(best[best > THRESHOLDS[0]].sum())


def _first(counts: ObjectCounts) -> list[np.ndarray]:
    """Counts at the lowest threshold: (N, C, 1)."""
    return [count[..., :1] for count in counts[:3]]


def _panoptic(counts: ObjectCounts, score: str) -> tuple[np.ndarray, ...]:
    true_pos, false_pos, false_neg = _first(counts)
    quality, size = counts.iou[..., None], true_pos + (false_pos + false_neg) / 2
    return {"pq": (quality, size), "sq": (quality, true_pos, size), "rq": (true_pos, size)}[score]


RATIOS: dict[str, Callable[[ObjectCounts], tuple[np.ndarray, ...]]] = {
    "precision": PIXEL_RATIOS["precision"],
    "recall": PIXEL_RATIOS["recall"],
    "f1": PIXEL_RATIOS["dice"],
    "ap": PIXEL_RATIOS["iou"],
    **{score: partial(_panoptic, score=score) for score in ("pq", "sq", "rq")},
}
"""Part, whole and, if it differs from the whole, ``Ratio.shown``: (N, C, T), or (N, C, 1)."""


def image_table(counts: ObjectCounts) -> pd.DataFrame:
    """Objects and scores of each image (missing if none), all images of the first class before those of the next."""
    true_pos, false_pos, false_neg = (count[..., 0] for count in _first(counts))
    columns: dict[str, np.ndarray] = {
        "true_objects": true_pos + false_neg,
        "predicted_objects": true_pos + false_pos,
        "matched_objects": true_pos,
        "object_f1": _ratio(counts, "f1").value(math.nan)[..., 0],
        "object_ap": defined_mean(_ratio(counts, "ap").value(math.nan)),
        "panoptic_quality": _ratio(counts, "pq").value(math.nan)[..., 0],
    }
    return pd.DataFrame({name: values.T.ravel() for name, values in columns.items()})


def summary(
    counts: ObjectCounts, names: list[str], groups: pd.Series, *, aggregator: Aggregator, confidence: float
) -> tuple[dict, dict[str, dict]]:
    """Means over classes, and the scores of each class, as plain values with intervals (None if undefined).

    `<score>_50` is at IoU 0.5, `<score>_50_95` the mean over ``THRESHOLDS``, "by_threshold" the curve. `count_error`
    and `count_bias` are means over images of | predicted - true | and predicted - true number, under any aggregation.
    """
    estimates: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # (C,) and (repeats, C)
    curves = {}
    for score in RATIOS:
        overall, resampled = _estimate(_ratio(counts, score), groups, aggregator)
        if score in PANOPTIC:
            estimates[score] = overall[..., 0], resampled[..., 0]
            continue
        curves[score] = overall
        estimates[f"{score}_50"] = overall[..., 0], resampled[..., 0]
        estimates[f"{score}_50_95"] = defined_mean(overall), defined_mean(resampled)
    true_pos, false_pos, false_neg = _first(counts)
    excess = np.where(counts.known[..., None], false_pos - false_neg, math.nan)
    for score, values in (("count_error", np.abs(excess)), ("count_bias", excess)):
        parts = as_mean(values)
        overall, resampled = _estimate(parts, groups, aggregator._replace(aggregation="dataset"))
        estimates[score] = overall[..., 0], resampled[..., 0]
    means: dict = {}
    classes: dict[str, dict] = {
        name: {
            "num_true": int((true_pos + false_neg)[:, number].sum()),
            "num_predicted": int((true_pos + false_pos)[:, number].sum()),
        }
        for number, name in enumerate(names)
    }
    for score, estimate in estimates.items():
        add_score(means, classes, score, estimate, confidence)
    for number, class_scores in enumerate(classes.values()):
        class_scores["by_threshold"] = {
            f"{level:.2f}": {score: plain(curve[number, index]) for score, curve in curves.items()}
            for index, level in enumerate(THRESHOLDS)
        }
    return means, classes


def _ratio(counts: ObjectCounts, score: str) -> Ratio:
    return Ratio.of(*RATIOS[score](counts))


def _estimate(ratios: Ratio, groups: pd.Series, aggregator: Aggregator) -> tuple[np.ndarray, np.ndarray]:
    """``Aggregator.estimate_ratio`` of ratios (N, C, M): (C, M), and (repeats, C, M)."""
    shape = ratios.part.shape[1:]
    overall, resampled = aggregator.estimate_ratio(Ratio(*(part.reshape(len(part), -1) for part in ratios)), groups)
    return overall.reshape(shape), resampled.reshape(-1, *shape)
