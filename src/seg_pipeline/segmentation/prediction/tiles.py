"""Windows that cover an image, and their results put together again, the middle of each counting most.

Axes: K channels, H rows, W columns. Free of torch: the exported model uses it too.
"""

from __future__ import annotations

import math

import numpy as np

SIGMA = 1 / 8
"""Width of the Gaussian as a share of the window's side, as in nnU-Net (Isensee et al. 2021, Nature Methods 18)."""

Shape = tuple[int, int]


def windows(shape: Shape, size: Shape, *, overlap: float) -> list[tuple[slice, slice]]:
    """Rows and columns of evenly spread windows, row by row, that cover an image of ``shape`` (H, W).

    Args:
        size: height and width of a window; a side of the image that is shorter is taken whole.
        overlap: neighbours share at least this share of a side, from 0 to below 1.
    """
    rows, columns = (_spans(side, length, overlap) for side, length in zip(shape, size, strict=True))
    return [(row, column) for row in rows for column in columns]


def _spans(side: int, length: int, overlap: float) -> list[slice]:
    if side <= length:
        return [slice(0, side)]
    number = math.ceil((side - length) / max(1, math.floor(length * (1 - overlap)))) + 1
    starts = [round(step * (side - length) / (number - 1)) for step in range(number)]
    return [slice(start, start + length) for start in starts]


def gaussian_weights(size: Shape) -> np.ndarray:
    """Float32 (H, W): at most 1 in the middle and 1e-7 in the corners, where a window sees least around it."""
    rows, columns = (
        np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side * SIGMA)) ** 2).astype(np.float32) for side in size
    )
    return np.outer(rows, columns)


class Stitcher:
    """Weighted mean of overlapping windows: float32 (K, H, W)."""

    def __init__(self, num_channels: int, shape: Shape) -> None:
        self._sum = np.zeros((num_channels, *shape), dtype=np.float32)
        self._weight = np.zeros(shape, dtype=np.float32)
        self._gaussians: dict[Shape, np.ndarray] = {}

    def add(self, window: tuple[slice, slice], values: np.ndarray) -> None:
        """Values float32 (K, h, w) of one window."""
        size = values.shape[-2], values.shape[-1]
        if size not in self._gaussians:
            self._gaussians[size] = gaussian_weights(size)
        weights = self._gaussians[size]
        self._sum[:, *window] += values * weights
        self._weight[window] += weights

    def result(self) -> np.ndarray:
        """Float32 (K, H, W); the windows must have covered the image."""
        assert self._weight.min() > 0, "a pixel that no window covers"
        return self._sum / self._weight
