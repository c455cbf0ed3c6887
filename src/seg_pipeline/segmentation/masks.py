"""Masks in the forms that data sets use, and as bool arrays.

Axes: C classes, H rows, W columns. A mask is bool, (H, W) for one class and (C, H, W) for all.
Inside the project every mask is a run-length string, row-major and counted from 1; the other forms
are read once, by data_processing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Order = Literal["C", "F"]

IGNORE = 255
"""Value of a pixel whose truth is not known, in a uint8 mask of otherwise 0 and 1."""


def encode_rle(mask: np.ndarray, *, order: Order) -> str:
    """Run lengths "start length start length ..." of a bool mask (H, W); "" where it is empty.

    Starts count from 1, along rows for ``order="C"`` and down columns for "F".
    """
    padded = np.zeros(mask.size + 2, dtype=bool)
    padded[1:-1] = mask.ravel(order=order)
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    runs = np.empty(edges.size, dtype=np.int64)
    runs[::2] = edges[::2] + 1
    runs[1::2] = edges[1::2] - edges[::2]
    return " ".join(map(str, runs.tolist()))


def decode_rle(rle: str, shape: tuple[int, int], *, order: Order, first: int = 1) -> np.ndarray:
    """Bool mask of ``shape`` (H, W) from "start length start length ...".

    Starts count from ``first`` (1 or 0), along rows for ``order="C"`` and down columns for "F".
    Sources disagree on the order and a round trip cannot tell, so it has no default.

    Raises:
        ValueError: a value is no integer, their number is odd, a length is below 1, runs overlap or
            are unsorted, or a run lies outside the image.
    """
    runs = _parse_runs(rle)
    starts, lengths = runs[::2] - first, runs[1::2]
    ends = starts + lengths
    if (starts[1:] < ends[:-1]).any():
        at = int(np.flatnonzero(starts[1:] < ends[:-1])[0]) + 1
        raise ValueError(f"run lengths overlap or are unsorted at run {at + 1}, which starts at {starts[at] + first}")
    size = shape[0] * shape[1]
    if runs.size and (starts[0] < 0 or ends[-1] > size):
        raise ValueError(
            f"run lengths cover pixels {starts[0] + first} to {ends[-1] + first - 1}, but an image of "
            f"height {shape[0]} and width {shape[1]} has pixels {first} to {size + first - 1}"
        )
    # +1 at each start and -1 at each end: the running sum is 1 inside a run. Runs may touch, so add.
    steps = np.zeros(size + 1, dtype=np.int8)
    steps[starts] += 1
    np.subtract.at(steps, ends, 1)
    return np.cumsum(steps[:-1], dtype=np.int8).astype(bool).reshape(shape, order=order)


def _parse_runs(rle: str) -> np.ndarray:
    try:
        runs = np.array(rle.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise ValueError(f"run lengths must be whole numbers, found {rle[:40]!r}") from None
    if runs.size % 2:
        raise ValueError(f"run lengths must come in pairs, found {runs.size} numbers")
    if (runs[1::2] < 1).any():
        raise ValueError("run lengths must be at least 1 pixel long")
    return runs


def binary_mask(values: np.ndarray) -> np.ndarray:
    """Bool mask (H, W) of a mask image in which one value, whichever, marks the class and 0 the rest.

    Raises:
        ValueError: the image holds more than one value besides 0 (it is no binary mask, or was saved
            with loss).
    """
    mask = values > 0
    if (values[mask] != values.max()).any():
        raise ValueError(
            f"mask holds the values {_listed(np.unique(values[mask]))} besides 0, but a binary mask has only one; "
            "for class ids in one file set `annotations.form: indexed`"
        )
    return mask


def indexed_masks(
    values: np.ndarray,
    class_values: list[int],
    *,
    background_values: list[int],
    ignore_values: list[int],
    colours: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Bool masks (C, H, W) of an image (H, W) of class ids, and where it says "ignore" (H, W).

    ``colours``: the values are colours of ``pack_colours``, and are called so in messages.

    Raises:
        ValueError: the image holds a value that was not declared.
    """
    declared = [*class_values, *background_values, *ignore_values]
    # bincount is quicker than np.unique, which sorts, but for colours would count 16.7 million values
    present = np.unique(values) if colours else np.flatnonzero(np.bincount(values.ravel()))
    unknown = np.setdiff1d(present, declared)
    if unknown.size:
        known = [_colour(value) for value in class_values] if colours else sorted(class_values)
        raise ValueError(
            f"mask holds the {'colours' if colours else 'values'} {_listed(unknown, colours=colours)}, but the "
            f"classes have {known}; declare them as classes or list them under `background_values` or `ignore_values`"
        )
    masks = np.stack([values == value for value in class_values])
    return masks, np.isin(values, ignore_values)


def _listed(values: np.ndarray, most: int = 6, *, colours: bool = False) -> str:
    text = ", ".join(_colour(value) if colours else str(value) for value in values[:most].tolist())
    return f"{text} and {values.size - most} more" if values.size > most else text


def is_colour(value: object) -> bool:
    """Whether a declared value is a colour, as "#8000ff" for red 128, green 0, blue 255."""
    return isinstance(value, str) and value.startswith("#")


def pixel_value(value: str | int) -> int:
    """The whole number that stands for a declared value in an indexed mask; see ``pack_colours``."""
    return int(value[1:], 16) if isinstance(value, str) and is_colour(value) else int(value)


def pack_colours(image: np.ndarray) -> np.ndarray:
    """Int32 (H, W) of 65536 red + 256 green + blue, of a uint8 image (H, W, 3) or (H, W) of grey values."""
    rgb = np.broadcast_to(image[..., None] if image.ndim == 2 else image, (*image.shape[:2], 3)).astype(np.int32)
    return (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]


def _colour(value: int) -> str:
    return f"#{value:06x}"
