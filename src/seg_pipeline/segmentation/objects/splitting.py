"""Split a class's mask into objects by a watershed that starts outside the predicted gaps."""

from __future__ import annotations

import cv2
import numpy as np

THRESHOLDS = tuple(round(step / 20, 2) for step in range(1, 20))
"""Probabilities that separate one level from the next."""
STEPS = np.array((0, *THRESHOLDS), dtype=np.float32)
"""Probability of each level, rounded down to a threshold."""
_NEIGHBOURS = (cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), np.ones((3, 3), np.uint8))


def to_levels(probabilities: np.ndarray, thresholds: tuple[float, ...]) -> np.ndarray:
    """Count the thresholds (ascending) that each probability exceeds: uint8 of the same shape."""
    limits = np.array(thresholds, dtype=np.float32)
    levels = np.zeros(probabilities.shape, dtype=np.uint8)
    above = probabilities > limits[0]
    levels[above] = np.searchsorted(limits, probabilities[above], side="left")
    return levels


def split_mask(mask: np.ndarray, levels: np.ndarray, seed: int) -> np.ndarray:
    """Split a mask into objects: int32 (H, W), 0 for background.

    Seeds are the connected regions above the level ``seed``. They grow within the mask one level after another, highest
    first, so that two objects meet where the level is lowest; within a level they grow alternately to 4 and 8
    neighbours, nearly in circles. Each region that no seed reaches becomes an object of its own.

    Args:
        mask: bool (H, W).
        levels: ``to_levels`` the probability of the class and no gap, uint8 (H, W).
        seed: an object starts where its level is above this one.
    """
    inside = np.where(mask, levels, 0)
    number, seeds = cv2.connectedComponents((inside > seed).view(np.uint8), connectivity=4)
    labels = seeds.astype(np.float32)  # which OpenCV dilates; holds integers exactly up to 2^24
    for level in range(seed - 1, -2, -1):
        _grow(labels, mask & (inside > level))
    unreached = mask & (labels == 0)
    others = cv2.connectedComponents(unreached.view(np.uint8), connectivity=8)[1]
    return np.where(unreached, others + number - 1, labels).astype(np.int32)


def _grow(labels: np.ndarray, allowed: np.ndarray) -> None:
    """Grow labels in place into the free pixels of ``allowed`` that are connected with them."""
    free = allowed & (labels == 0)
    remaining, idle_steps, turn = np.count_nonzero(free), 0, 0
    while remaining and idle_steps < 2:  # neither 4 nor 8 neighbours reach any more
        np.copyto(labels, cv2.dilate(labels, _NEIGHBOURS[turn % 2]), where=free)
        free &= labels == 0
        before, remaining, turn = remaining, np.count_nonzero(free), turn + 1
        idle_steps = idle_steps + 1 if remaining == before else 0


def areas_and_means(labels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of each label (background first), and the mean of ``values`` (H, W) over them: int64, float64 (N + 1,)."""
    areas = np.bincount(labels.ravel())
    return areas, np.bincount(labels.ravel(), values.ravel()) / np.maximum(areas, 1)


def drop_objects(labels: np.ndarray, values: np.ndarray | None, *, min_area: int, min_mean: float) -> np.ndarray:
    """Remove objects of fewer pixels or a lower mean of ``values`` (H, W), number the others from 1: int32 (H, W).

    ``values`` may be None if ``min_mean`` is 0.
    """
    areas, means = (np.bincount(labels.ravel()), min_mean) if values is None else areas_and_means(labels, values)
    keep = (areas >= max(min_area, 1)) & (means >= min_mean)
    keep[0] = False
    return (np.cumsum(keep) * keep).astype(np.int32)[labels]
