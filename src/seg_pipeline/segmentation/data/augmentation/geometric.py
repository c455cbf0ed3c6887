"""Geometric augmentation, applied to both image and truth.

Axes: B images, N planes of the truth, K channels of the image, H rows, W columns. Parameters of a batch are columns
(B, 1, 1, 1).
"""

import math
from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from seg_pipeline.segmentation.images.masks import IGNORE


class Flip:
    """Horizontal flip of half of the samples. Parameter: 1 flips, 0 does not."""

    num_random_values = num_parameters = 1

    def draw(self, random_values: np.ndarray, _shape: tuple[int, int]) -> np.ndarray:
        return random_values < 0.5

    def change(self, picture: np.ndarray, planes: np.ndarray, flip: float) -> tuple[np.ndarray, np.ndarray]:
        if not flip:
            return picture, planes
        rows = planes.reshape(-1, planes.shape[-1])
        return cv2.flip(picture, 1).reshape(picture.shape), cv2.flip(rows, 1).reshape(planes.shape)

    def change_batch(self, images: Tensor, truth: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(flip > 0, images.flip(-1), images), torch.where(flip > 0, truth.flip(-1), truth)


class Warp:
    """Flip, rotation, shift and zoom in one resampling: bilinear for the image, nearest neighbour for the truth.

    Parameters: the two rows of the matrix that maps output positions (x, y, 1) to input positions. As in
    ``grid_sample``, an image spans -1 to 1.
    """

    num_random_values, num_parameters = 5, 6

    def __init__(self, *, degrees: float, shift: float, zoom: float, mirror: bool = False) -> None:
        self.degrees, self.shift, self.zoom, self.mirror = degrees, shift, zoom, mirror

    def draw(self, random_values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        turn, right, down, grow, flip = 2 * random_values - 1
        angle, scale = math.radians(self.degrees) * turn, self.zoom**-grow
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        side = np.where(self.mirror & (flip < 0), -1, 1)
        flat = shape[0] / shape[1]
        rows = [(side * cos, side * sin * flat), (-sin / flat, cos)]
        moved = [(a, b, -2 * self.shift * (a * right + b * down)) for a, b in rows]
        return np.concatenate(moved).reshape(6, -1)

    def change(self, picture: np.ndarray, planes: np.ndarray, *matrix: float) -> tuple[np.ndarray, np.ndarray]:
        height, width, channels = picture.shape
        warp = partial(cv2.warpAffine, M=_pixel_matrix(matrix, height, width), dsize=(width, height))
        linear = partial(warp, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR)
        nearest = partial(warp, flags=cv2.WARP_INVERSE_MAP | cv2.INTER_NEAREST, borderValue=(IGNORE,) * 4)
        if channels == 3:  # OpenCV warps four channels in half the time of three
            moved = cv2.cvtColor(linear(cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA)), cv2.COLOR_BGRA2BGR)
        else:  # its border value covers at most four
            parts = [linear(np.ascontiguousarray(picture[..., at : at + 4])) for at in range(0, channels, 4)]
            moved = np.dstack(parts) if len(parts) > 1 else parts[0].reshape(picture.shape)
        return moved, _by_fours(planes, nearest)

    def change_batch(self, images: Tensor, truth: Tensor, *matrix: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        across = torch.linspace(1 / width - 1, 1 - 1 / width, width, device=images.device)[:, None]
        down = torch.linspace(1 / height - 1, 1 - 1 / height, height, device=images.device)[:, None, None]
        a, b, c, d, e, f = matrix
        # Not a matrix product, which a GPU may compute in TF32, with positions off by up to a tenth of a pixel.
        first, second, third = (torch.cat(pair, dim=-1) for pair in ((a, d), (b, e), (c, f)))  # (B, 1, 1, 2)
        grid = first * across + torch.addcmul(third, second, down)
        moved = functional.grid_sample(images.float(), grid, align_corners=False)
        known = functional.grid_sample(truth - float(IGNORE), grid, mode="nearest", align_corners=False)
        return moved.round_(), known.add_(IGNORE).to(torch.uint8)


def _pixel_matrix(matrix: Sequence[float], height: int, width: int) -> np.ndarray:
    """The same matrix for pixel centres (column, row, 1): float64 (2, 3)."""
    a, b, c, d, e, f = matrix
    b, d = b * width / height, d * height / width
    column, row = (width - 1) / 2, (height - 1) / 2  # of the middle
    return np.array([[a, b, column + c * width / 2 - a * column - b * row],
                     [d, e, row + f * height / 2 - d * column - e * row]])  # fmt: skip


def _by_fours(planes: np.ndarray, change: partial) -> np.ndarray:
    """Apply ``change`` to planes, uint8 (N, H, W), as up to four channels of a picture: faster than one at a time."""
    result = np.empty_like(planes)
    height, width = planes.shape[1:]
    # Into an aligned array OpenCV writes past the CPU's cache, from which the warp would then read at half the speed.
    picture = np.empty(height * width * 4 + 1, dtype=np.uint8)[1:].reshape(height, width, 4)
    for first in range(0, len(planes), 4):
        part, outputs = list(planes[first : first + 4]), list(result[first : first + 4])
        if len(part) == 1:
            change(part[0], dst=outputs[0])
        else:
            num_unused = 4 - len(part)
            cv2.merge(part + part[-1:] * num_unused, picture)
            cv2.split(change(picture), outputs + [np.empty_like(part[0])] * num_unused)
    return result
