"""Run lengths to masks and back (a), and the pixel loop of many notebooks or pycocotools (b). The loop takes 20 to 130
times as long; pycocotools is no faster.
"""

import sys
from collections.abc import Callable, Iterable
from typing import TypeVar

import cv2
import numpy as np
import side_by_side

from seg_pipeline.segmentation.images.masks import decode_rle, encode_rle

Item = TypeVar("Item")


def draw_masks(number: int, side: int, radius: int) -> list[np.ndarray]:
    """Three ellipses each, as organs are in a slice."""
    rng = np.random.default_rng(0)
    masks = np.zeros((number, side, side), dtype=np.uint8)
    for mask in masks:
        for centre, axes in zip(rng.integers(0, side, (3, 2)), rng.integers(radius // 2, radius, (3, 2)), strict=True):
            cv2.ellipse(mask, centre.tolist(), axes.tolist(), 0, 0, 360, 1, -1)
    return list(masks.astype(bool))


def loop_encode(mask: np.ndarray) -> str:
    """A step for each pixel of the class."""
    runs: list[int] = []
    previous = -2
    for pixel in np.flatnonzero(mask.ravel()):
        if pixel > previous + 1:
            runs += [pixel + 1, 0]
        runs[-1] += 1
        previous = pixel
    return " ".join(str(value) for value in runs)


def loop_decode(rle: str, shape: tuple[int, int]) -> np.ndarray:
    """A step for each pixel of the class."""
    flat = np.zeros(shape[0] * shape[1], dtype=np.uint8)
    numbers = [int(value) for value in rle.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        for pixel in range(start - 1, start - 1 + length):
            flat[pixel] = 1
    return flat.reshape(shape)


def each(items: Iterable[Item], call: Callable[[Item], object]) -> None:
    """One after another, as pipelines go; a list of all masks would measure the memory's allocation besides."""
    for item in items:
        call(item)


def against_loop(masks: list[np.ndarray], label: str, limit: float) -> list[side_by_side.Result]:
    rles, shape = [encode_rle(mask, order="C") for mask in masks], masks[0].shape
    assert [loop_encode(mask) for mask in masks] == rles
    note = f"{len(masks)} masks of {shape[0]} x {shape[1]}, {np.mean(masks):.0%} of the pixels"
    return [
        side_by_side.compare(
            f"rle_encode_{label}_vs_loop",
            lambda: each(masks, lambda mask: encode_rle(mask, order="C")),
            lambda: each(masks, loop_encode),
            limit=limit,
            note=note,
        ),
        side_by_side.compare(
            f"rle_decode_{label}_vs_loop",
            lambda: each(rles, lambda rle: decode_rle(rle, shape, order="C")),
            lambda: each(rles, lambda rle: loop_decode(rle, shape)),
            limit=limit,
            note=note,
        ),
    ]


def against_pycocotools(masks: list[np.ndarray], label: str) -> list[side_by_side.Result | side_by_side.Skipped]:
    try:
        from pycocotools import mask as coco
    except ImportError:
        return [side_by_side.Skipped(f"rle_{label}_vs_pycocotools", "pycocotools is not installed")]
    columns = [np.asfortranarray(mask, dtype=np.uint8) for mask in masks]  # the layout that it wants
    bools, shape = [mask.view(bool) for mask in columns], masks[0].shape
    note = f"{len(masks)} masks of {shape[0]} x {shape[1]}, encoded and decoded, column-major"
    return [
        side_by_side.compare(
            f"rle_{label}_vs_pycocotools",
            lambda: each(bools, lambda mask: decode_rle(encode_rle(mask, order="F"), shape, order="F")),
            lambda: each(columns, lambda mask: coco.decode(coco.encode(mask))),
            limit=1,
            runs=9,
            note=note,
        ),
    ]


if __name__ == "__main__":
    slices, photos = draw_masks(200, 266, 40), draw_masks(20, 1024, 300)
    code = side_by_side.report(*against_loop(slices, "slices", 0.05), *against_loop(photos, "photos", 0.05))
    sys.exit(code | side_by_side.report(*against_pycocotools(slices, "slices"), *against_pycocotools(photos, "photos")))
