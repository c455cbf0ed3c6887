"""Small measures of one image by which it is told from others, and of its masks by which they are told apart.

Axes: C classes, H rows, W columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import xxhash

FEW_CLASSES = 3
"""In an image, up to which each pair of masks is looked at."""
SIDE = 16
"""Rows, and comparisons a row, of a thumbnail."""


def content_hash(image: np.ndarray) -> str:
    """XXH3 (128 bits, hex) of shape, dtype and pixels: equal for equal pictures in whatever file.

    Not against somebody who wants two pictures to have one hash; a hash that is takes twenty times as long.
    """
    digest = xxhash.xxh3_128(repr((image.shape, image.dtype.kind, image.itemsize)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def thumbnail(image: np.ndarray) -> str:
    """256 bits in hex: which pixel of a tiny grey copy is brighter than the one to its left.

    A "difference hash": it hardly changes with compression, size, brightness or contrast.
    """
    # first to a multiple of the final size, where taking means is a tenth of the work
    sampled = cv2.resize(image, (4 * (SIDE + 1), 4 * SIDE), interpolation=cv2.INTER_LINEAR)
    small = cv2.resize(sampled, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    grey = small if small.ndim == 2 else small.mean(axis=2)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()


def overlaps(masks: np.ndarray, areas: Sequence[int]) -> str:
    """Pixels that two classes share: "0+2:37" for each such pair of class numbers; "" where none do.

    Args:
        masks: bool (C, H, W).
        areas: pixels of each.
    """
    shown = [number for number, area in enumerate(areas) if area]
    if len(shown) > FEW_CLASSES and sum(areas) == np.count_nonzero(masks.any(axis=0)):
        return ""  # quicker than to look at every pair
    shared = {pair: np.count_nonzero(masks[pair[0]] & masks[pair[1]]) for pair in itertools.combinations(shown, 2)}
    return " ".join(f"{a}+{b}:{pixels}" for (a, b), pixels in shared.items() if pixels)


def parse_overlaps(text: str) -> dict[tuple[int, int], int]:
    """{(0, 2): 37} from "0+2:37"."""
    pairs = (entry.split(":") for entry in text.split())
    return {(int(pair.split("+")[0]), int(pair.split("+")[1])): int(pixels) for pair, pixels in pairs}


def count_objects(mask: np.ndarray) -> int:
    """Connected components of a bool mask (H, W), where pixels that touch at a corner are connected."""
    values = mask.view(np.uint8)
    left, top, width, height = cv2.boundingRect(values)  # most masks are small
    return cv2.connectedComponents(values[top : top + height, left : left + width])[0] - 1 if width else 0
