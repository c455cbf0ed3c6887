"""Count the pixels of a validation image for every candidate setting, so that it is predicted only once.

Axes: N images, C classes, H rows, W columns, T thresholds, A minimum areas. The last axis of the counts holds true
positives, false positives and false negatives, in pixels.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.manifest.table import OBJECT_MAP
from seg_pipeline.segmentation.metrics.overlap import Counts
from seg_pipeline.segmentation.objects.label_maps import decode_labels
from seg_pipeline.segmentation.objects.matching import count_splits
from seg_pipeline.segmentation.objects.splitting import THRESHOLDS
from seg_pipeline.segmentation.prediction.postprocessing import argmax_masks, find_holes

SEEDS = (*THRESHOLDS[1::2], THRESHOLDS[-1])
"""Candidates for ``object_seeds``: .1, .2, ..., .9, .95."""
CONFIDENCES = (0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.825, 0.85, 0.875, 0.9, 0.925)
"""Candidates for ``object_confidence``. Most objects lie above .85, as only their borders are uncertain."""
AREAS = (0, 5, 10, 20, 40, 80, 160, 320, 640)


def argmax_levels(probabilities: np.ndarray, background: bool) -> np.ndarray:
    """Return uint8 (C, H, W): 1 where the class has the largest probability."""
    return argmax_masks(probabilities, background).view(np.uint8)


def count_levels(levels: np.ndarray, masks: np.ndarray, num_thresholds: int) -> np.ndarray:
    """Count the pixels above each threshold, int64 (T, C, 3), from levels and ground truth, both uint8 (C, H, W)."""
    counts = np.empty((num_thresholds, len(levels), 3), dtype=np.int64)
    for index, (level, mask) in enumerate(zip(levels, masks, strict=True)):
        above_any = (level > 0) & (mask != IGNORE)
        values, positive = level[above_any], mask[above_any] == 1
        above, hits = (
            np.bincount(one, minlength=num_thresholds + 1)[:0:-1].cumsum()[::-1] for one in (values, values[positive])
        )
        counts[:, index] = np.stack([hits, above - hits, np.count_nonzero(mask == 1) - hits], axis=1)
    return counts


def count_objects(masks: np.ndarray, truth: np.ndarray, *, exclusive: bool) -> np.ndarray:
    """Count pixels for every combination of steps after the threshold, int64 (C, 2, A, 2, 3).

    The axes after the class: holes kept or filled, minimum area, all objects or only the largest.

    Args:
        masks: thresholded masks, bool (C, H, W).
        truth: ground truth, uint8 (C, H, W).
        exclusive: classes do not overlap, so holes that contain another class are not filled.
    """
    free = np.logical_not(masks.any(0)) if exclusive else None
    counts = np.zeros((len(masks), 2, len(AREAS), 2, 3), dtype=np.int64)
    for index, (mask, true) in enumerate(zip(masks, truth, strict=True)):
        if not mask.any():
            counts[index, ..., 2] = np.count_nonzero(true == 1)
            continue
        holes = find_holes(mask, free)
        counts[index, 0] = _by_area(mask, true)
        counts[index, 1] = _by_area(mask | holes, true) if holes.any() else counts[index, 0]
    return counts


def _by_area(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Count the pixels of one class for each minimum area, for all objects or only the largest: (A, 2, 3)."""
    number, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    known = (truth != IGNORE) & mask
    predicted = np.bincount(labels[known], minlength=number)[1:]
    hits = np.bincount(labels[known & (truth == 1)], minlength=number)[1:]
    areas = stats[1:, cv2.CC_STAT_AREA]
    keep = areas >= np.maximum(AREAS, 1)[:, None]
    largest = keep & (np.arange(number - 1) == areas.argmax())
    both = np.stack([keep, largest], axis=1).astype(np.int64)  # (A, 2, objects)
    true_pos, all_predicted = both @ hits, both @ predicted
    return np.stack([true_pos, all_predicted - true_pos, np.count_nonzero(truth == 1) - true_pos], axis=-1)


def counts_if_cleared(counts: np.ndarray, peaks: np.ndarray, min_peaks: Iterable[float]) -> np.ndarray:
    """Counts (N, V, 3) of one class if it is cleared in images whose peak (N,) is below each of V minimum peaks.

    ``counts`` (N, 3) are those without clearing.
    """
    cleared = np.zeros_like(counts)
    cleared[:, 2] = counts[:, 0] + counts[:, 2]
    return np.stack([np.where((peaks < min_peak)[:, None], cleared, counts) for min_peak in min_peaks], axis=1)


def count_class_splits(
    row: Mapping,
    names: Sequence[str],
    masks: np.ndarray,
    levels: np.ndarray,
    values: np.ndarray,
    truth: np.ndarray,
    **candidates: Any,
) -> np.ndarray:
    """``count_splits`` of each class of an image: int64 (C, seeds, means, areas, 3).

    Args:
        row: the image's row in the manifest, with the true objects.
        masks: predicted masks, bool (C, H, W).
        levels, values: see ``count_splits``; one per class.
        truth: true masks, uint8 (C, H, W); only known pixels count.
        candidates: seeds, means and areas.
    """
    truths = [decode_labels(row[f"{OBJECT_MAP}{name}"], truth.shape[1:]) for name in names]
    parts = zip(masks, levels, values, truths, truth != IGNORE, strict=True)
    return np.stack([count_splits(*one, **candidates) for one in parts])


def to_counts(counts: np.ndarray) -> Counts:
    """Convert counts (N, V, 3), with candidate values in place of classes."""
    true_pos, false_pos, false_neg = (
        torch.from_numpy(np.ascontiguousarray(counts[..., column])) for column in range(3)
    )
    zeros = torch.zeros(len(counts), dtype=torch.int64)
    return Counts(true_pos, false_pos, false_neg, zeros, zeros)


class PackedLevels:
    """Compressed levels of an image: a few kilobytes instead of megabytes of probabilities."""

    def __init__(self, levels: np.ndarray) -> None:
        self._bytes, self._shape = zlib.compress(levels.tobytes(), 1), levels.shape

    def unpack(self) -> np.ndarray:
        return np.frombuffer(zlib.decompress(self._bytes), dtype=np.uint8).reshape(self._shape)
