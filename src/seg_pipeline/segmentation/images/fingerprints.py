"""Hashes that identify an image, and counts of objects and overlaps in its masks.

Axes: C classes, H rows, W columns.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping

import cv2
import numpy as np
import xxhash

FEW_CLASSES = 3
"""Number of classes in an image up to which every pair of masks is compared directly."""
SIDE = 16
"""Rows of a thumbnail, and comparisons per row."""


def content_hash(image: np.ndarray) -> str:
    """XXH3 hash (128 bits, hex) of shape, dtype and pixels: equal for equal images in any file format.

    It is not cryptographic: a forged collision is possible, and does no harm here. SHA-256 takes twenty times as long.
    """
    digest = xxhash.xxh3_128(repr((image.shape, image.dtype.kind, image.itemsize)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def thumbnail(image: np.ndarray) -> str:
    """Difference hash, 256 bits in hex: which pixels of a tiny grey copy are brighter than their left neighbour.

    It hardly changes with compression, size, brightness or contrast. The package imagehash
    would first convert 16-bit images to 8 bits.
    """
    # first to a multiple of the final size, where averaging is a tenth of the work
    sampled = cv2.resize(image, (4 * (SIDE + 1), 4 * SIDE), interpolation=cv2.INTER_LINEAR)
    small = cv2.resize(sampled, (SIDE + 1, SIDE), interpolation=cv2.INTER_AREA)
    grey = small if small.ndim == 2 else small.mean(axis=2)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()


def thumbnail_bits(thumbnails: Iterable[str]) -> np.ndarray:
    """What ``thumbnail`` gives for N images, as bytes: uint8 (N, 32)."""
    bits, rest = bytearray(), iter(thumbnails)
    while some := "".join(itertools.islice(rest, 4096)):
        bits += bytes.fromhex(some)
    return np.frombuffer(bits, dtype=np.uint8).reshape(-1, SIDE * SIDE // 8)


def overlaps(masks: Mapping[int, np.ndarray]) -> str:
    """Pixels shared by two classes, as "0+2:37" for each such pair of class numbers; "" if there are none.

    Args:
        masks: bool (H, W) of each class that is shown, by its number.
    """
    if len(masks) > FEW_CLASSES:
        covered, total = functools.reduce(np.logical_or, masks.values()), sum(map(np.count_nonzero, masks.values()))
        if total == np.count_nonzero(covered):
            return ""  # no overlap: faster than comparing every pair
    pairs = itertools.combinations(masks, 2)
    return format_overlaps({(a, b): int(np.count_nonzero(masks[a] & masks[b])) for a, b in pairs})


def format_overlaps(shared: Mapping[tuple[int, int], int]) -> str:
    """The inverse of ``parse_overlaps``; pairs without a pixel are left out."""
    return " ".join(f"{a}+{b}:{pixels}" for (a, b), pixels in shared.items() if pixels)


def parse_overlaps(text: str) -> dict[tuple[int, int], int]:
    """Parse "0+2:37" into {(0, 2): 37}."""
    pairs = (entry.split(":") for entry in text.split())
    return {(int(pair.split("+")[0]), int(pair.split("+")[1])): int(pixels) for pair, pixels in pairs}


def count_objects(mask: np.ndarray) -> int:
    """Number of connected components of a bool mask (H, W); pixels that touch at a corner are connected."""
    values = mask.view(np.uint8)
    left, top, width, height = cv2.boundingRect(values)  # only the bounding box is labelled, as most masks are small
    return cv2.connectedComponents(values[top : top + height, left : left + width])[0] - 1 if width else 0
