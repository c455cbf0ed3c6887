"""Scale and pad images to the network's input, and cut windows from larger images.

Axes: C classes, H rows, W columns, K channels. A ground truth is (C, H, W) or (H, W).
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.settings.training import STRIDE, InputSettings

Shape = tuple[int, int]

NUM_RANDOM_VALUES = 5
"""Number of random numbers that ``draw_window`` needs."""


class Box(NamedTuple):
    """A window of an image; it may extend beyond the image on all sides."""

    top: int
    left: int
    height: int
    width: int


def input_shapes(height: int, width: int, settings: InputSettings) -> tuple[Shape, Shape]:
    """Return the height and width of an image after scaling, and after padding at the bottom and right.

    Padding applies to whole images in validation and prediction; training windows have ``settings.size``.
    """
    scaled = settings.size
    if settings.resize_mode == "pad":
        scale = min(settings.size[0] / height, settings.size[1] / width)
        scaled = _scale_side(height, scale), _scale_side(width, scale)
    elif settings.resize_mode == "crop":
        scaled = _scale_side(height, settings.scale), _scale_side(width, settings.scale)
    return scaled, padded_shape(scaled, settings)


def padded_shape(scaled: Shape, settings: InputSettings) -> Shape:
    """Return the height and width of a scaled whole image after padding."""
    if settings.resize_mode != "crop":
        return settings.size
    return -(-scaled[0] // STRIDE) * STRIDE, -(-scaled[1] // STRIDE) * STRIDE


def _scale_side(side: int, scale: float) -> int:
    return max(1, round(side * scale))


def resize_image(image: np.ndarray, shape: Shape) -> np.ndarray:
    """Resize uint8 (H, W, K), K at most 4: area averaging to shrink, bilinear to enlarge."""
    if image.shape[:2] == shape:
        return image
    is_smaller = image.shape[0] * image.shape[1] > shape[0] * shape[1]
    resized = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR)
    return resized.reshape(*shape, -1)  # OpenCV drops a single channel's axis


def resize_truth(truth: np.ndarray, shape: Shape) -> np.ndarray:
    """Resize uint8 (C, H, W) or (H, W) by nearest neighbour."""
    if truth.shape[-2:] == shape:
        return truth
    if truth.ndim == 3:
        return np.stack([resize_truth(mask, shape) for mask in truth])
    return cv2.resize(truth, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def resize_logits(logits: np.ndarray, height: int, width: int, settings: InputSettings) -> np.ndarray:
    """Resize the logits of a scaled and padded image, float32 (K, h, w), to its native size (K, height, width).

    The padding is cropped first, so that it cannot affect the image; interpolation is bilinear with aligned pixel
    centres. All runtimes use OpenCV, because torch rounds its weights to float32: its error is up to 2e-3 (512 x 512
    to 2000 x 3000, noise with standard deviation 8) against 6e-6 of OpenCV, and it is 5 to 100 times slower.
    """
    scaled_height, scaled_width = input_shapes(height, width, settings)[0]
    assert logits.shape[1] >= scaled_height
    assert logits.shape[2] >= scaled_width
    if (scaled_height, scaled_width) == (height, width):
        return np.ascontiguousarray(logits[:, :scaled_height, :scaled_width])
    size = width, height
    return np.stack(
        [
            cv2.resize(channel, size, interpolation=cv2.INTER_LINEAR)
            for channel in logits[:, :scaled_height, :scaled_width]
        ]
    )


def draw_window(
    shape: Shape, settings: InputSettings, points: np.ndarray, random_values: Sequence[float], *, foreground: float
) -> Box:
    """Draw the part of an image of ``shape`` that becomes a training window of ``settings.size``.

    A window lies within a larger image; a smaller image lies anywhere within the window.

    Args:
        points: foreground pixels as row * width + column; if empty, windows are placed anywhere.
        random_values: ``NUM_RANDOM_VALUES`` random numbers in [0, 1).
        foreground: fraction of the windows that contain one of the points, at a random position.
    """
    zoom, vertical, horizontal, share, point = random_values
    scale = settings.zoom ** (2 * zoom - 1)
    height, width = (_scale_side(side, scale) for side in settings.size)
    if share < foreground and len(points):
        row, column = divmod(int(points[int(point * len(points))]), shape[1])
        top, left = row - int(vertical * height), column - int(horizontal * width)
    else:
        top, left = (
            min(0, room) + int(chance * (abs(room) + 1))
            for room, chance in [(shape[0] - height, vertical), (shape[1] - width, horizontal)]
        )
    return Box(_clamp_offset(top, shape[0] - height), _clamp_offset(left, shape[1] - width), height, width)


def _clamp_offset(offset: int, room: int) -> int:
    return min(max(offset, min(0, room)), max(0, room))


def crop_image(image: np.ndarray, box: Box) -> np.ndarray:
    """Copy ``box`` from an image, uint8 (H, W, K); pixels outside the image are black."""
    return _crop(image, box, axis=0, outside=0)


def crop_truth(truth: np.ndarray, box: Box) -> np.ndarray:
    """Copy ``box`` from a ground truth, uint8 (C, H, W) or (H, W); pixels outside the image are ``IGNORE``."""
    return _crop(truth, box, axis=truth.ndim - 2, outside=IGNORE)


def _crop(array: np.ndarray, box: Box, *, axis: int, outside: int) -> np.ndarray:
    """Copy ``box`` from an array whose rows are ``axis`` and whose columns are ``axis + 1``."""
    height, width = array.shape[axis : axis + 2]
    rows = slice(max(0, box.top), min(height, box.top + box.height))
    columns = slice(max(0, box.left), min(width, box.left + box.width))
    leading = (slice(None),) * axis
    part = array[*leading, rows, columns]
    if part.shape[axis : axis + 2] == box[2:]:
        return part.copy()
    canvas = np.full((*array.shape[:axis], *box[2:], *array.shape[axis + 2 :]), outside, dtype=np.uint8)
    top, left = rows.start - box.top, columns.start - box.left
    canvas[*leading, top : top + part.shape[axis], left : left + part.shape[axis + 1]] = part
    return canvas
