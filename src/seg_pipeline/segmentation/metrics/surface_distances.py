"""Distances between the borders of two masks, in images and volumes.

Axes: D frames, H rows, W columns; an image is a volume of one frame. The surface of a mask consists of its pixels
with at least one neighbour outside it (4 neighbours in an image, 6 in a volume); beyond the image edge is outside.
"""

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy import ndimage

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
ROUNDING = 1e-5
"""Relative slack for float32 distances, so that one equal to the tolerance counts as within it."""

MAX_PAIRS = 60_000
"""Up to this many pairs of surface pixels, all pairwise distances are computed; beyond, distance maps."""
PAIRS_PER_PIXEL = 30
"""Up to this many pairs per pixel of an image, multiplying coordinates takes less time than two distance maps."""
MAX_SIDE = 2000
"""Longest side in pixels for which float32 holds squared distances exactly."""

Spacing = tuple[float, float, float]
"""Spacing of frames, rows and columns."""


class MaskComparison(NamedTuple):
    """Comparison of two masks of one class; 0 and NaN if both are empty."""

    boundary_both: int
    """Pixels in the boundary bands of both masks (the pixels of a mask within the boundary width of its border)."""
    boundary_either: int
    """Pixels in at least one boundary band."""
    surface_near: int
    """Surface pixels of either mask within the tolerance of the other's surface."""
    surface_all: int
    """Surface pixels of both masks."""
    hd95: float
    """95th percentile Hausdorff distance; infinite if only one mask is empty."""


BOTH_EMPTY = MaskComparison(0, 0, 0, 0, math.nan)


def compare(
    predicted: np.ndarray,
    truth: np.ndarray,
    *,
    spacing: Spacing,
    tolerance: float,
    boundary_width: int = 0,
    volume: bool | None = None,
) -> MaskComparison:
    """Compare two bool masks (D, H, W).

    - hd95: distances from each surface pixel to the nearest surface pixel of the other mask, their 95th percentile
      in each direction, and the larger of the two (Huttenlocher et al. 1993, in the form of Taha and Hanbury 2015).
    - surface_near / surface_all: normalised surface Dice (Nikolov et al. 2018); each surface pixel counts as one.
    - boundary_both / boundary_either: boundary IoU (Cheng et al. 2021, "Boundary IoU", CVPR); the distance to the
      border is the larger of the vertical and horizontal ones. For images only.

    Args:
        spacing: distance between frames, rows and columns; ``tolerance`` and hd95 have its unit.
        boundary_width: in pixels; 0 leaves out the boundary counts.
        volume: whether the masks are part of a volume, even if they have one frame; None: if they have several.
    """
    volume = len(predicted) > 1 if volume is None else volume  # before cropping to the box, which may have one frame
    box = bounding_box(predicted | truth)
    if box is None:
        return BOTH_EMPTY
    one, other = (np.ascontiguousarray(mask[box]) for mask in (predicted, truth))
    both, either = _boundaries(one, other, boundary_width)
    surfaces = surface(one, volume=volume), surface(other, volume=volume)
    number = sum(pixels(mask) for mask in surfaces)
    if not all(mask.any() for mask in surfaces):
        return MaskComparison(both, either, 0, number, math.inf)
    both_directions = _both_directions(*surfaces, spacing)
    near = sum(pixels(one_direction <= tolerance * (1 + ROUNDING)) for one_direction in both_directions)
    return MaskComparison(both, either, near, number, max(map(_percentile_95, both_directions)))


def pixels(mask: np.ndarray) -> int:
    """Number of True pixels."""
    return int(np.count_nonzero(mask))


def bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Slices of the smallest box around a mask (D, H, W); None if the mask is empty."""
    frames = np.flatnonzero(mask.any((1, 2)))
    if not frames.size:
        return None
    flat: np.ndarray = np.logical_or.reduce(mask[frames[0] : frames[-1] + 1], axis=0)
    rows, columns = np.flatnonzero(flat.any(1)), np.flatnonzero(flat.any(0))
    return tuple(slice(int(indices[0]), int(indices[-1]) + 1) for indices in (frames, rows, columns))


def diagonal(shape: tuple[int, ...], spacing: Spacing) -> float:
    """Diagonal of a volume (D, H, W), or of an image if D is 1, in the unit of ``spacing``."""
    flat = shape[0] == 1
    return math.hypot(*(side * step for side, step in list(zip(shape, spacing, strict=True))[flat:]))


def surface(mask: np.ndarray, *, volume: bool) -> np.ndarray:
    """Surface of a bool mask (D, H, W) cut out of a volume or an image, as the module defines it."""
    inner = np.stack([_erode(frame, CROSS) for frame in mask])
    if volume:
        inner[1:] &= mask[:-1]
        inner[:-1] &= mask[1:]
        inner[0] = inner[-1] = False
    return mask & ~inner


def _both_directions(one: np.ndarray, other: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    """``distances`` in both directions; if there are few pixels, by comparing all pairs, which is faster."""
    number = pixels(one) * pixels(other)
    if number > MAX_PAIRS:
        flat = len(one) == 1 and spacing[1] == spacing[2] and max(one.shape) <= MAX_SIDE
        if flat and number <= PAIRS_PER_PIXEL * one.size:
            return _of_all_pairs(one[0], other[0], spacing[1])
        return distances(one, other, spacing), distances(other, one, spacing)
    squares: Any = 0
    for first, second, step in zip(np.nonzero(one), np.nonzero(other), spacing, strict=True):
        offsets = np.subtract.outer(first.astype(np.float32), second.astype(np.float32)) * np.float32(step)
        squares = squares + offsets * offsets
    return np.sqrt(squares.min(1)), np.sqrt(squares.min(0))


def _of_all_pairs(one: np.ndarray, other: np.ndarray, step: float, block: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """``distances`` between bool masks (H, W) in both directions, bit-identical.

    Squared distances are |a|² + |b|² - 2ab: one matrix product of integers that float32 holds exactly.
    """
    first, second = (
        np.stack(np.divmod(np.flatnonzero(mask), mask.shape[1])).astype(np.float32) for mask in (one, other)
    )
    left = np.stack([(first * first).sum(0), np.ones_like(first[0]), *first], axis=1)
    right = np.stack([np.ones_like(second[0]), (second * second).sum(0), *(-2 * second)])
    forward, backward = np.empty(len(left), dtype=np.float32), np.full(right.shape[1], np.inf, dtype=np.float32)
    for start in range(0, len(left), block):  # blocks that fit into the processor's cache
        squares = left[start : start + block] @ right
        squares.min(1, out=forward[start : start + block])
        np.minimum(backward, squares.min(0), out=backward)
    directions = (
        np.sqrt((np.sqrt(squared) * np.float32(step)) ** 2) for squared in (forward, backward)
    )  # as ``distances`` rounds
    return next(directions), next(directions)


def distances(points: np.ndarray, target: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Distance from each pixel of ``points`` to the nearest pixel of ``target``, both bool (D, H, W) and not empty.

    Exact up to float32 rounding. A distance transform of each frame of the target gives distances in the plane in
    linear time; each point then takes the minimum over frames. Several times faster than transforming the volume.
    """
    frames_with_target = np.flatnonzero(target.any((1, 2)))
    planes = np.stack([_plane_distances(target[frame], spacing[1:]).ravel() for frame in frames_with_target])
    results = []
    for frame, plane in enumerate(points):
        between = ((frames_with_target - frame) * spacing[0]).astype(np.float32) ** 2
        results.append(np.sqrt((planes[:, np.flatnonzero(plane)] ** 2 + between[:, None]).min(0)))
    return np.concatenate(results)


def _plane_distances(target: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Distance to the nearest pixel of one frame of the target: float32 (H, W)."""
    outside = ~target
    if spacing[0] != spacing[1]:
        return ndimage.distance_transform_edt(outside, sampling=spacing).astype(np.float32)
    used = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)  # OpenCV takes IPP where it may use one thread only; IPP errs in the last digit
    try:
        distances_in_pixels = cv2.distanceTransform(outside.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    finally:
        cv2.ipp.setUseIPP(used)
    return distances_in_pixels * np.float32(spacing[0])


def _boundaries(predicted: np.ndarray, truth: np.ndarray, width: int) -> tuple[int, int]:
    """Number of pixels in both boundary bands, and in at least one."""
    if width < 1:
        return 0, 0
    kernel = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    one, other = (mask[0] & ~_erode(mask[0], kernel) for mask in (predicted, truth))
    return pixels(one & other), pixels(one | other)


def _erode(frame: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return cv2.erode(frame.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0).view(bool)


def _percentile_95(values: np.ndarray) -> float:
    """As numpy's, linear between the nearest ranks, in a tenth of its time on so few values."""
    ranked, position = np.sort(values), 0.95 * (len(values) - 1)
    low = int(position)
    high = min(low + 1, len(values) - 1)
    return float(ranked[low] + (ranked[high] - ranked[low]) * (position - low))
