"""Match the objects of two label maps: integer arrays (H, W), 0 for background and one value per object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seg_pipeline.segmentation.objects.splitting import areas_and_means, split_mask

THRESHOLDS = tuple(step / 100 for step in range(50, 100, 5))
"""IoU .50, .55, ..., .95, as in COCO and the Data Science Bowl 2018."""


class Overlaps(NamedTuple):
    """How the T true and the P predicted objects overlap."""

    true_ids: np.ndarray
    """Ids of the true objects, ascending: int64 (T,)."""
    predicted_ids: np.ndarray
    """Ids of the predicted objects, ascending: int64 (P,)."""
    iou: np.ndarray
    """Intersection over union of each pair: float64 (T, P)."""


def overlaps(truth: np.ndarray, predicted: np.ndarray, *, known: np.ndarray | None = None) -> Overlaps:
    """Compute the IoU of each true object with each predicted one.

    Args:
        truth, predicted: label maps (H, W).
        known: bool (H, W), the pixels that count; None: all. Objects without such pixels are left out.
    """
    assert truth.shape == predicted.shape, (truth.shape, predicted.shape)
    if known is not None:
        truth, predicted = truth * known, predicted * known
    (true_ids, rows), (predicted_ids, columns) = (np.unique(one, return_inverse=True) for one in (truth, predicted))
    shape = len(true_ids), len(predicted_ids)
    common = np.bincount(rows.ravel() * shape[1] + columns.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    union = common.sum(1, keepdims=True) + common.sum(0, keepdims=True) - common
    iou = common / np.maximum(union, 1)
    true_kept, predicted_kept = true_ids != 0, predicted_ids != 0
    return Overlaps(
        true_ids[true_kept].astype(np.int64),
        predicted_ids[predicted_kept].astype(np.int64),
        iou[true_kept][:, predicted_kept],
    )


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
    """Count the matches for each combination of settings, summed over ``THRESHOLDS``: int64 (seeds, means, areas, 3).

    The F1 of the sums is the mean F1 over the thresholds, as the number of objects does not depend on them.

    Args:
        mask, levels: see ``split_mask``.
        values: probability of the class (H, W), see ``drop_objects``.
        truth: label map (H, W).
        known: bool (H, W), the pixels that count.
        seeds: levels to start objects from.
        means: smallest mean values of objects.
        areas: smallest areas of objects.
    """
    counts = np.empty((len(seeds), len(means), len(areas), 3), dtype=np.int64)
    for index, seed in enumerate(seeds):
        labels = split_mask(mask, levels, seed)
        overlap = overlaps(truth, labels, known=known)
        pixels, confidence = (one[overlap.predicted_ids] for one in areas_and_means(labels, values))
        keep = (confidence >= np.array(means)[:, None, None]) & (pixels >= np.array(areas)[:, None])
        best = overlap.iou.max(axis=0, initial=0)  # from .5 on, there is one match at most, in both directions
        hits = keep @ (best[:, None] > np.array(THRESHOLDS)).sum(axis=1)
        predicted = keep.sum(axis=-1) * len(THRESHOLDS)
        counts[index] = np.stack([hits, predicted - hits, len(overlap.true_ids) * len(THRESHOLDS) - hits], axis=-1)
    return counts
