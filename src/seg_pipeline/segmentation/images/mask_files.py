"""Read mask files at the size and orientation of their images, and clean up what lossy compression changed."""

from typing import NamedTuple

import cv2
import numpy as np

from seg_pipeline.segmentation.images.addresses import file_of
from seg_pipeline.segmentation.images.decoding import read_image, read_values
from seg_pipeline.segmentation.images.headers import turn
from seg_pipeline.segmentation.images.masks import MaskError, pack_colours, to_nearest

Note = tuple[str, str, str]
"""Rule, reason and action, as in findings, about a usable image."""
MIN_GAP = 32
"""Values that lossy compression changed can be told apart if they were so far from each other."""
SAME_PROPORTIONS = 0.02
"""Height and width of a mask may be scaled by factors that differ by this share."""


class Picture(NamedTuple):
    """The image that masks must fit: height and width, the EXIF orientation that turned it, and notes to add to."""

    shape: tuple[int, int]
    orientation: int
    notes: list[Note]


def read_mask_file(path: str, picture: Picture, *, resample: bool, nearest: bool, colours: bool = False) -> np.ndarray:
    """Pixel values (H, W) at the picture's size; ``colours`` are packed as 65536 red + 256 green + blue.

    A mask that was drawn on the picture before it was turned is turned too; one of another size is scaled if
    ``resample`` is set. A JPEG is noted, unless ``nearest`` says that ``round_mask`` will.

    Raises:
        MaskError: the file cannot be read, is a colour image, or has another size.
        OSError: the system cannot read the file.
    """
    try:
        values = read_image(path) if colours else read_values(path)
    except ValueError as error:
        raise MaskError("unreadable_mask", str(error)) from None
    if colours and values.dtype != np.uint8:
        raise MaskError(
            "mask_in_colour",
            f"{path}: mask has 16 bits per channel, but its classes are declared as 8-bit colours",
        )
    values = pack_colours(values) if colours else values
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise MaskError(
                "mask_in_colour",
                f"{path}: mask is a colour image, expected grey values or a palette; if colours are classes, "
                "give each class its colour as `value`, such as [128, 0, 64]",
            )
        values = values[..., 0]
    if not nearest and file_of(path).lower().endswith((".jpg", ".jpeg")):
        picture.notes.append(("lossy_mask", f"{path}: the mask is a JPEG, which changes values", "flagged"))
    return values if values.shape == picture.shape else _fitted(values, path, picture, resample=resample)


def _fitted(values: np.ndarray, path: str, picture: Picture, *, resample: bool) -> np.ndarray:
    (height, width), (rows, columns) = picture.shape, values.shape
    sizes = f"mask is {rows} x {columns} (height x width), its image {height} x {width}"
    if picture.orientation >= 5 and (columns, rows) == picture.shape:
        reason = f"{path}: the mask has the size of the image before its EXIF orientation turned it, and is turned too"
        picture.notes.append(("mask_turned", reason, "repaired"))
        return turn(values, picture.orientation)
    proportional = abs(rows * width / (columns * height) - 1) <= SAME_PROPORTIONS
    if resample and proportional:
        picture.notes.append(("mask_resampled", f"{path}: {sizes}; it was scaled, by the nearest pixel", "repaired"))
        # OpenCV scales integers of 32 bits only as floats, which hold them exactly up to 2^53
        scaled = cv2.resize(values.astype(np.float64), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        return scaled.astype(values.dtype)
    remedy = "; `annotations.resample_masks: true` scales it" if proportional else ""
    raise MaskError("mask_size_differs", f"{path}: {sizes}{remedy}")


def round_mask(
    values: np.ndarray, declared: list[int], path: str, notes: list[Note], *, colours: bool = False
) -> np.ndarray:
    """Each value as the closest declared one, with a note of how many changed.

    Raises:
        MaskError: declared values are so close that the nearest one may be another class.
    """
    nearest = to_nearest(values, declared, colours=colours)
    changed = int(np.count_nonzero(nearest != values))
    if not changed:
        return values
    gaps = np.diff(sorted(declared))
    if not colours and gaps.size and gaps.min() < MIN_GAP:
        raise MaskError(
            "lossy_mask",
            f"{path}: {changed} pixels hold other values than the declared ones, which are only {gaps.min()} apart, so "
            f"that `nearest_value` may take one class for another; export the mask again as PNG",
        )
    reason = f"{path}: {changed} of {values.size} pixels hold other values and are read as the closest declared one"
    notes.append(("lossy_mask", reason, "repaired"))
    return nearest
