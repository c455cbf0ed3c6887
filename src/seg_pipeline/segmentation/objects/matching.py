"""Match the objects of two label maps: integer arrays (H, W), 0 for background and one value per object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seg_pipeline.segmentation.objects.splitting import areas_and_means, split_mask

THRESHOLDS = tuple(step / 100 for step in range(50, 100, 5))
"""IoU .50, .55, ..., .95, as in COCO and the Data Science Bowl 2018."""


class Overlaps(NamedTuple):
    """How the T true objects and the F found ones overlap."""

    true_ids: np.ndarray
    """Ids of the true objects, ascending: int64 (T,)."""
    found_ids: np.ndarray
    """Ids of the found objects, ascending: int64 (F,)."""
    iou: np.ndarray
    """Intersection over union of each pair: float64 (T, F)."""


def overlaps(truth: np.ndarray, found: np.ndarray, *, known: np.ndarray | None = None) -> Overlaps:
    """Compute the IoU of each true object with each found one.

    Args:
        truth, found: label maps (H, W).
        known: bool (H, W), the pixels that count; None: all. Objects without such pixels do not exist.
    """
    assert truth.shape == found.shape, (truth.shape, found.shape)
    if known is not None:
        truth, found = truth * known, found * known
    (true_ids, rows), (found_ids, columns) = (np.unique(one, return_inverse=True) for one in (truth, found))
    shape = len(true_ids), len(found_ids)
    common = np.bincount(rows.ravel() * shape[1] + columns.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    union = common.sum(1, keepdims=True) + common.sum(0, keepdims=True) - common
    iou = common / np.maximum(union, 1)
    true_kept, found_kept = true_ids != 0, found_ids != 0
    return Overlaps(
        true_ids[true_kept].astype(np.int64), found_ids[found_kept].astype(np.int64), iou[true_kept][:, found_kept]
    )


def matches(iou: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Return the row and column of each matched pair of an IoU matrix (T, F): int64 (M, 2).

    A pair matches if its IoU is above ``threshold``. From .5 on, an object has at most one such partner, because
    objects of one map share no pixel; hence no choice among partners is needed.

    Raises:
        ValueError: the threshold is below .5.
    """
    if threshold < 0.5:
        raise ValueError(f"an IoU threshold of {threshold} lets an object match several; give .5 or more")
    return np.argwhere(iou > threshold)


def count_matches(iou: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """Count true positives, false positives and false negatives at each threshold: int64 (len(thresholds), 3)."""
    hits = np.array([len(matches(iou, one)) for one in thresholds], dtype=np.int64)
    return np.stack([hits, iou.shape[1] - hits, iou.shape[0] - hits], axis=1)


def count_splits(
    mask: np.ndarray,
    levels: np.ndarray,
    values: np.ndarray,
    truth: np.ndarray,
    known: np.ndarray,
    *,
    seeds: Sequence[int],
    means: Sequence[float],
    areas: Sequence[int],
) -> np.ndarray:
    """Count the matches of each way to split a mask, summed over ``THRESHOLDS``: int64 (seeds, means, areas, 3).

    The F1 of the sums is the mean F1 over the thresholds, as the number of objects does not depend on them.

    Args:
        mask, levels: as ``split_mask`` takes them.
        values: probability of the class (H, W), as ``drop_objects`` takes it.
        truth: label map (H, W).
        known: bool (H, W), the pixels that count.
        seeds: levels to start objects from.
        means: smallest mean values of objects.
        areas: smallest areas of objects.
    """
    counts = np.empty((len(seeds), len(means), len(areas), 3), dtype=np.int64)
    for place, seed in enumerate(seeds):
        labels = split_mask(mask, levels, seed)
        found = overlaps(truth, labels, known=known)
        pixels, sure = (one[found.found_ids] for one in areas_and_means(labels, values))
        kept = (sure >= np.array(means)[:, None, None]) & (pixels >= np.array(areas)[:, None])
        best = found.iou.max(axis=0, initial=0)  # above .5 there is one match at most, in both directions
        hits = kept @ (best[:, None] > np.array(THRESHOLDS)).sum(axis=1)
        predicted = kept.sum(axis=-1) * len(THRESHOLDS)
        counts[place] = np.stack([hits, predicted - hits, len(found.true_ids) * len(THRESHOLDS) - hits], axis=-1)
    return counts


def f1(counts: np.ndarray) -> np.ndarray:
    """2TP / (2TP + FP + FN) of counts (..., 3): float64 (...); 1 where there is no object in either map."""
    hits, false_pos, false_neg = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    total = 2 * hits + false_pos + false_neg
    return np.where(total > 0, 2 * hits / np.maximum(total, 1), 1.0)
