"""Label maps as text, as the manifest stores the objects of a class.

A label map is an integer array (H, W), 0 for background and 1 to N for the objects of one class.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np


def encode_labels(labels: np.ndarray) -> str:
    """Run lengths "start length object start length object ..." along rows, starts from 1; "" without objects."""
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    runs = np.stack([starts + 1, np.diff(starts, append=flat.size), flat[starts]], axis=1)[flat[starts] != 0]
    return " ".join(map(str, runs.ravel().tolist()))


def decode_labels(text: str, shape: tuple[int, int]) -> np.ndarray:
    """The inverse of ``encode_labels``: int32 of ``shape`` (H, W)."""
    runs = np.array(text.split(), dtype=np.int64).reshape(-1, 3)
    gaps = np.diff(runs[:, 0] - 1, prepend=0)
    gaps[1:] -= runs[:-1, 1]
    num_after = shape[0] * shape[1] - int(gaps.sum() + runs[:, 1].sum())
    values = np.stack([np.zeros_like(gaps), runs[:, 2]], axis=1).ravel()
    counts = np.stack([gaps, runs[:, 1]], axis=1).ravel()
    return np.append(values, 0).astype(np.int32).repeat(np.append(counts, num_after)).reshape(shape)


def numbered(values: np.ndarray) -> np.ndarray:
    """Renumber object ids of any size, 0 for background, as 1 to N in ascending order: int32 (H, W)."""
    ids, indices = np.unique(values, return_inverse=True)
    return (indices + int(ids[0] != 0)).reshape(values.shape).astype(np.int32)


def join_masks(masks: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Label map of one bool mask (H, W) per object; where objects overlap, the smaller one is on top. int32 (H, W)."""
    labels = np.zeros(shape, dtype=np.int32)
    for number, mask in enumerate(sorted(masks, key=np.count_nonzero, reverse=True), start=1):
        labels[mask] = number
    return numbered(labels)  # an object may be hidden by others


def resize_labels(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a label map by nearest neighbour: int32 of ``shape`` (H, W)."""
    if labels.shape == shape:
        return labels
    # OpenCV scales integers of 32 bits only as floats, which hold them exactly up to 2^24
    scaled = cv2.resize(labels.astype(np.float32), shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return scaled.astype(np.int32)
