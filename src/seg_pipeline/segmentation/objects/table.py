"""Measurements of the objects of a label map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Measured(NamedTuple):
    """One object; coordinates in pixels from the top left corner of the image."""

    object: int
    """Its value in the label map."""
    area: int
    """Pixels."""
    top: int
    left: int
    height: int
    width: int
    centre_y: float
    centre_x: float
    """Mean position of its pixels; the centre of the first pixel is 0."""
    confidence: float
    """Mean probability of its pixels."""


def measure_objects(labels: np.ndarray, probabilities: np.ndarray) -> Iterator[Measured]:
    """Measure the objects of a label map, integers (H, W), in the order of their numbers.

    Args:
        labels: 0 for background.
        probabilities: float32 (H, W) of the class.
    """
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        mask = labels[box] == number
        rows, columns = np.nonzero(mask)
        (top, left), (height, width) = (span.start for span in box), mask.shape
        centre = rows.mean() + top, columns.mean() + left
        confidence = probabilities[box][mask].mean(dtype=np.float64)
        yield Measured(number, len(rows), top, left, height, width, *map(float, (*centre, confidence)))
