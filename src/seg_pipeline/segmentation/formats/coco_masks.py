"""Decode COCO's segmentations: polygons (x y x y ...), or run lengths down columns as counts or a compressed string."""

from typing import Any

import numpy as np


def decode_segmentation(segmentation: Any, shape: tuple[int, int] | None) -> np.ndarray:
    """Bool mask (H, W) of COCO's polygons, counts or compressed counts.

    Polygons are filled by pycocotools, after a check for NaN, on which it would take all memory. Counts are checked and
    decoded here: if they end early, pycocotools 2.0.11 returns pixels of uninitialised memory.

    Raises:
        ValueError: it has another format or does not fit an image of ``shape``.
    """
    if shape is None:
        raise ValueError("its image has no height and width, and no file to take them from")
    if not segmentation:
        raise ValueError("it has no segmentation; boxes and key points are not masks")
    if isinstance(segmentation, list):
        return _fill_polygons(segmentation, shape)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError("a segmentation must be a list of polygons or have `size` and `counts`")
    if segmentation["size"] != list(shape):
        raise ValueError(f"its run lengths are for {segmentation['size']} (height, width), its image is {list(shape)}")
    counts = segmentation["counts"]
    return _lay_out(expand_counts(counts) if isinstance(counts, str) else counts, shape)


def _fill_polygons(polygons: list[Any], shape: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as coco

    for polygon in polygons:
        if not isinstance(polygon, list) or not all(isinstance(one, int | float) for one in polygon):
            raise ValueError("a polygon must be a list of numbers")
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon must have at least 3 points of x and y, found {len(polygon)} numbers")
        if not all(-max(shape) <= one <= 2 * max(shape) for one in polygon):  # NaN fails, too
            raise ValueError(f"a polygon lies far outside its image of {shape[0]} x {shape[1]} (height x width)")
    filled = coco.merge(coco.frPyObjects(polygons, *shape))
    return _lay_out(expand_counts(filled["counts"].decode()), shape)


def expand_counts(compressed: str) -> list[int]:
    """Decode a compressed string of counts: 5 bits per character, lowest first; the sixth bit means that more follow.
    From the fourth count on, each is a difference to the count two before.

    Source: rleFrString in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c.
    """
    counts: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in compressed):
        if not 0 <= code < 64 or shift > 35:
            raise ValueError("its compressed counts hold characters that COCO does not use")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        value -= 1 << shift if code & 16 else 0
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its compressed counts end in the middle of a number")
    return counts


def _lay_out(counts: Any, shape: tuple[int, int]) -> np.ndarray:
    """Bool mask (H, W) from pixels off, on, off ... down columns."""
    size = shape[0] * shape[1]
    whole = isinstance(counts, list) and all(isinstance(one, int) and 0 <= one <= size for one in counts)
    if not whole or sum(counts) != size:
        raise ValueError(f"its counts must be whole numbers that add up to the image's {size} pixels")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(shape, order="F")


def coco_counts(mask: np.ndarray) -> list[int]:
    """Lengths of alternating runs of 0 and 1 down the columns of a bool mask (H, W), starting with 0."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *counts] if flat[:1].any() else counts
