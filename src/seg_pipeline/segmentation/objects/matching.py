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
        best = found.iou.max(axis=0, initial=0)  # from .5 on, there is one match at most, in both directions
        hits = kept @ (best[:, None] > np.array(THRESHOLDS)).sum(axis=1)
        predicted = kept.sum(axis=-1) * len(THRESHOLDS)
        counts[place] = np.stack([hits, predicted - hits, len(found.true_ids) * len(THRESHOLDS) - hits], axis=-1)
    return counts
