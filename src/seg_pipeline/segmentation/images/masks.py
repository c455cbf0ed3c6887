"""Convert masks between the formats of data sets and bool arrays.

Axes: C classes, H rows, W columns. A mask is bool, (H, W) for one class and (C, H, W) for all.
Inside the project every mask is a run-length string, row-major and counted from 1; other formats are read once, by
data_processing. pycocotools has no such codec: it knows column-major counts only, and does not report bad input.
"""

from __future__ import annotations

import itertools
import re
from typing import Literal, NamedTuple

import numpy as np

Order = Literal["C", "F"]

IGNORE = 255
"""Value of an unlabelled pixel in a uint8 mask of 0 and 1."""

_PLAIN = b"0123456789 "
_CANONICAL = re.compile(r"[1-9][0-9]*+(?: [1-9][0-9]*+)*+")
_ALTERNATING = np.arange(4096) % 2 == 1


class MaskError(ValueError):
    """A mask cannot be used; ``rule`` names the finding that is reported."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule


def encode_rle(mask: np.ndarray, *, order: Order) -> str:
    """Run lengths "start length start length ..." of a bool mask (H, W); "" if it is empty.

    Starts count from 1, along rows for ``order="C"`` and down columns for "F".
    """
    flat = mask.ravel(order=order)
    if not flat.size:
        return ""
    edges = (flat[1:] != flat[:-1]).nonzero()[0]
    edges += 1
    if flat[0]:  # a run that begins with the first pixel
        edges = np.concatenate([[0], edges])
    if flat[-1]:
        edges = np.concatenate([edges, [flat.size]])
    edges[1::2] -= edges[::2]  # ends become lengths
    edges[::2] += 1
    return ("%d " * edges.size)[:-1] % (*edges.tolist(),)  # half the time of joining strings


def decode_rle(rle: str, shape: tuple[int, int], *, order: Order, first: int = 1) -> np.ndarray:
    """Bool mask of ``shape`` (H, W) from "start length start length ...".

    Starts count from ``first`` (1 or 0), along rows for ``order="C"`` and down columns for "F".
    Sources disagree on the order, and a round trip succeeds with either, so it has no default.

    Raises:
        MaskError: a value is not an integer, the number of values is odd, a length is below 1, runs overlap or
            are unsorted, or a run lies outside the image.
    """
    return _painted(_gaps_and_runs(rle, shape, first), shape, order)


def read_rle(rle: str, shape: tuple[int, int], *, order: Order, first: int = 1) -> MaskRead:
    """As ``decode_rle``, with the area and, if known, the canonical run lengths."""
    counts = _gaps_and_runs(rle, shape, first)
    mask = _painted(counts, shape, order)
    if not counts[1::2].size:
        return MaskRead(mask, 0, "")
    apart = np.count_nonzero(counts[2:-1:2]) == counts.size // 2 - 1  # no run begins where another ends
    same = order == "C" and first == 1 and apart and _CANONICAL.fullmatch(rle)
    return MaskRead(mask, int(counts[1::2].sum()), rle if same else None)


class MaskRead(NamedTuple):
    """A mask from one source: bool (H, W), its area, and ``encode_rle(mask, order="C")`` if known, else None."""

    mask: np.ndarray
    area: int
    rle: str | None


def _painted(counts: np.ndarray, shape: tuple[int, int], order: Order) -> np.ndarray:
    # repeating False and True is 10 times as fast as filling runs one by one
    inside = _ALTERNATING[: counts.size] if counts.size <= _ALTERNATING.size else np.arange(counts.size) % 2 == 1
    return inside.repeat(counts).reshape(shape, order=order)


def _gaps_and_runs(rle: str, shape: tuple[int, int], first: int) -> np.ndarray:
    """Lengths of gaps and runs in turn, with a gap at either end, int64; errors as ``decode_rle``."""
    runs = _parse_runs(rle)
    size = shape[0] * shape[1]
    if not runs.size:
        return np.array([size])
    edges = np.empty(runs.size + 2, dtype=np.int64)
    edges[0], edges[-1] = first, size + first
    edges[1:-1] = runs
    edges[2:-1:2] += runs[::2]
    counts = edges[1:] - edges[:-1]
    # as unsigned, negative or overflowed values are huge; gaps may be 0, runs may not
    if np.maximum.reduce(counts.view(np.uint64)) > size or np.count_nonzero(counts[1::2]) < counts.size // 2:
        _refuse_bad_runs(runs[::2], runs[1::2], shape, first)
    return counts


def _refuse_bad_runs(starts: np.ndarray, lengths: np.ndarray, shape: tuple[int, int], first: int) -> None:
    """Raise MaskError if runs are empty, overlap, are unsorted or leave the image."""
    if lengths.min() < 1:
        raise MaskError("rle_malformed", "run lengths must be at least 1 pixel long")
    # Python integers cannot overflow
    spans = [
        (start - first, start - first + length) for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]
    size = shape[0] * shape[1]
    lowest, highest = min(start for start, _ in spans), max(end for _, end in spans)
    if lowest < 0 or highest > size:
        raise MaskError(
            "rle_out_of_bounds",
            f"run lengths cover pixels {lowest + first} to {highest + first - 1}, but an image of "
            f"height {shape[0]} and width {shape[1]} has pixels {first} to {size + first - 1}",
        )
    for number, ((_, end), (start, _)) in enumerate(itertools.pairwise(spans), start=2):
        if start < end:
            raise MaskError(
                "rle_unsorted",
                f"run lengths overlap or are unsorted at run {number}, which starts at {start + first}",
            )


def _parse_runs(rle: str) -> np.ndarray:
    """Starts and lengths in turn, int64."""
    text = rle.encode("ascii", "replace")
    try:
        if text.translate(None, _PLAIN):
            runs = np.array(rle.split(), dtype=np.int64)
        else:
            runs = np.fromstring(text, np.int64, sep=" ")  # four times as fast, but accepts other characters
    except (ValueError, OverflowError):
        raise MaskError("rle_malformed", f"run lengths must be whole numbers, found {rle[:40]!r}") from None
    if runs.size % 2:
        raise MaskError("rle_malformed", f"run lengths must come in pairs, found {runs.size} numbers")
    return runs


def binary_mask(values: np.ndarray) -> np.ndarray:
    """Bool mask (H, W) of a mask image in which 0 is background and any one other value marks the class.

    Raises:
        MaskError: the image holds more than one value besides 0 (it is not a binary mask, or was saved
            with lossy compression).
    """
    mask = values != 0
    if (values[mask] != values.flat[mask.argmax()]).any():
        raise MaskError(
            "mask_not_binary",
            f"mask holds the values {_listed(np.unique(values[mask]))} besides 0, but a binary mask has only one; "
            "for class ids in one file set `annotations.mask_format: indexed`",
        )
    return mask


def indexed_masks(
    values: np.ndarray,
    class_values: list[int],
    *,
    background_values: list[int],
    ignore_values: list[int],
    colours: bool = False,
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Bool masks (H, W) of the classes, by number, that an image (H, W) of class ids shows; and its pixels to ignore.

    ``colours``: the values are colours packed by ``pack_colours``, and messages show them as such.

    Raises:
        MaskError: the image holds an undeclared value.
    """
    declared = [*class_values, *background_values, *ignore_values]
    # bincount is faster than np.unique, which sorts, but needs small numbers
    few = values.dtype in (np.uint8, np.uint16)
    present = np.flatnonzero(np.bincount(values.ravel())) if few else np.unique(values)
    unknown = np.setdiff1d(present, declared)
    if unknown.size and set(present.tolist()) <= {0, 255}:
        raise MaskError(
            "binary_mask_as_ids",
            f"mask holds the values {_listed(present)} only, like a binary mask, but is read as class ids; "
            "if each file is the mask of one class, set `annotations.mask_format: files`",
        )
    if unknown.size:
        known = [_colour(value) for value in class_values] if colours else sorted(class_values)
        raise MaskError(
            "unknown_class_value",
            f"mask holds the {'colours' if colours else 'values'} {_listed(unknown, colours=colours)}, but the "
            f"classes have {known}; declare them as classes or list them under `background_values` or `ignore_values`",
        )
    shown = set(present.tolist())
    masks = {number: values == value for number, value in enumerate(class_values) if value in shown}
    return masks, np.isin(values, ignore_values)


def _listed(values: np.ndarray, most: int = 6, *, colours: bool = False) -> str:
    text = ", ".join(_colour(value) if colours else str(value) for value in values[:most].tolist())
    return f"{text} and {values.size - most} more" if values.size > most else text


def is_colour(value: object) -> bool:
    """Whether a declared value is a colour, such as "#8000ff" for red 128, green 0, blue 255."""
    return isinstance(value, str) and re.fullmatch("#[0-9a-f]{6}", value) is not None


def pixel_value(value: str | int) -> int:
    """The integer of a declared value in an indexed mask; see ``pack_colours``."""
    return int(value[1:], 16) if isinstance(value, str) and is_colour(value) else int(value)


def pack_colours(image: np.ndarray) -> np.ndarray:
    """Pack a uint8 image, (H, W, 3) or grey (H, W), into int32 (H, W) of 65536 red + 256 green + blue."""
    rgb = np.broadcast_to(image[..., None] if image.ndim == 2 else image, (*image.shape[:2], 3)).astype(np.int32)
    return (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]


def to_nearest(values: np.ndarray, declared: list[int], *, colours: bool) -> np.ndarray:
    """Each value of ``values``, packed by ``pack_colours`` if they are ``colours``, as the closest declared one."""
    present, places = np.unique(values, return_inverse=True)  # far fewer than pixels
    shifts, most = (np.array([16, 8, 0]), 255) if colours else (np.array([0]), -1)
    found, known = ((np.asarray(some, dtype=np.int64)[:, None] >> shifts) & most for some in (present, declared))
    nearest = np.abs(found[:, None] - known).sum(axis=-1).argmin(axis=1)
    return np.array(declared, dtype=np.int64)[nearest][places].reshape(values.shape)


def _colour(value: int) -> str:
    return f"#{value:06x}"
