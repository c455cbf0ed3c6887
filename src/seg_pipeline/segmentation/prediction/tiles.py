"""Windows that cover an image, and the weighted mean of their results; a window's centre has the most weight.

Axes: K channels, H rows, W columns. This module does not import torch, because exported models use it too.
"""

import math

import numpy as np

SIGMA = 1 / 8
"""Width of the Gaussian as a share of the window's side, as in nnU-Net (Isensee et al. 2021, Nature Methods 18)."""

Shape = tuple[int, int]


def windows(shape: Shape, size: Shape, *, overlap: float) -> list[tuple[slice, slice]]:
    """Return the rows and columns of evenly spaced windows that cover an image of ``shape`` (H, W), row by row.

    Args:
        size: height and width of a window; if a side of the image is shorter, the window spans it.
        overlap: smallest overlap of neighbours, as a fraction of a window's side, from 0 to below 1.
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
    """Weights of a window's pixels, float32 (H, W): up to 1 in the middle, about 1e-7 in the corners, where the network
    sees the least context."""
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
        """Add the values of one window, float32 (K, h, w)."""
        size = values.shape[-2], values.shape[-1]
        if size not in self._gaussians:
            self._gaussians[size] = gaussian_weights(size)
        weights = self._gaussians[size]
        self._sum[:, *window] += values * weights
        self._weight[window] += weights

    def result(self) -> np.ndarray:
        """Return the mean, float32 (K, H, W); the windows must cover the whole image."""
        assert self._weight.min() > 0, "no window covers some pixel"
        return self._sum / self._weight
