"""Gaps between objects, which the network learns beside each class so that touching objects can be separated."""

from __future__ import annotations

import cv2
import numpy as np

REACH = 2
"""A gap holds the pixels within this distance, in rows and columns, of two objects."""


def gaps(labels: np.ndarray, *, reach: int = REACH) -> np.ndarray:
    """Pixels near two objects of a class, inside or between them: bool (H, W).

    An isolated object has none: predicting borders too scored worse where objects do not touch
    (docs/explanation/objects.md).

    Args:
        labels: label map, integers (H, W), 0 for background.
    """
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    values = labels.astype(np.float32)  # which OpenCV dilates; holds integers exactly up to 2^24
    highest = cv2.dilate(values, window)
    lowest = cv2.erode(np.where(labels > 0, values, np.inf).astype(np.float32), window)
    return (highest > 0) & (lowest < highest)


def seams(labels: np.ndarray, width: int = 1) -> np.ndarray:
    """Lines along which objects touch, for figures: bool (H, W) of a label map (H, W)."""
    touching = np.zeros(labels.shape, dtype=np.uint8)
    for part, one, other in (
        (touching[:-1], labels[:-1], labels[1:]),
        (touching[:, :-1], labels[:, :-1], labels[:, 1:]),
    ):
        np.copyto(part, 1, where=(one != other) & (one > 0) & (other > 0))
    return cv2.dilate(touching, np.ones((width, width), np.uint8)).view(bool)


def start_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Probability that a pixel belongs to the class and not to a gap, which is high where objects start: (C, H, W).

    Args:
        probabilities: float32 (2 C, H, W): the classes, then the gaps of each.
    """
    number = len(probabilities) // 2
    return probabilities[:number] * (1 - probabilities[number:])
