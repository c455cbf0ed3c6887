"""Overlay of prediction and ground truth that can be read without colour.

Axes: C classes, H rows, W columns. An image is uint8, (H, W) or (H, W, 3) in RGB; masks are bool (C, H, W).
"""

from __future__ import annotations

import cv2
import numpy as np

from seg_pipeline.segmentation.plotting.overlay import check_picture, draw_outlines, tint
from seg_pipeline.segmentation.plotting.style import class_colours

STRIPE, STRENGTH = 6, 0.75
"""Distance between stripes in pixels, and the share of the class colour in a stripe."""
TINY, RING = 40, 9
"""Spots of up to this many pixels get a ring, because they would be overlooked; and the radius of the ring."""
_SQUARE = np.ones((3, 3), dtype=np.uint8)


def overlay_prediction(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, *, side: int) -> np.ndarray:
    """The image, uint8 (h, w, 3), with the prediction as stripes and the ground truth as a solid outline.

    The outline has a dark edge, so that it shows on any background and in any colour. Stripes and outline differ in
    form, so that a greyscale print tells them apart. White rings mark spots of either that are too small to see.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        truth: bool (C, H, W).
        predicted: bool (C, H, W).
        side: longer side of the result in pixels; small images are enlarged, so that outlines stay thin.
    """
    colours = class_colours(len(truth))
    height, width = (max(1, round(size * side / max(image.shape[:2]))) for size in image.shape[:2])
    picture = resized(check_picture(image, truth), (height, width))
    found, true = _resized_masks(predicted, (height, width)), _resized_masks(truth, (height, width))
    rows, columns = np.ogrid[:height, :width]
    stripes = (rows + columns) % STRIPE < STRIPE // 3
    striped = tint(tint(picture, found, 0.15, colours), found & stripes, STRENGTH, colours)
    return _ring_tiny(draw_outlines(_darken_around(striped, true), true, colours), (found | true).any(axis=0))


def resized(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The image resized to this height and width."""
    shrinks = shape[0] < picture.shape[0]
    return cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _resized_masks(masks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    sized = [cv2.resize(mask.view(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks]
    return np.stack(sized).astype(bool)


def _darken_around(picture: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Darken both sides of the masks' edges."""
    drawn = picture.copy()
    for mask in masks.astype(np.uint8):
        if mask.any():
            drawn[cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _SQUARE, borderType=cv2.BORDER_REPLICATE) > 0] = 0
    return drawn


def _ring_tiny(picture: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Draw rings around the components of ``shown``, bool (H, W), of at most ``TINY`` pixels."""
    _, _, stats, centres = cv2.connectedComponentsWithStats(shown.astype(np.uint8))
    for centre in centres[1:][stats[1:, cv2.CC_STAT_AREA] <= TINY]:
        place = (round(float(centre[0])), round(float(centre[1])))
        cv2.circle(picture, place, RING, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.circle(picture, place, RING, (255, 255, 255), 1, cv2.LINE_AA)
    return picture
