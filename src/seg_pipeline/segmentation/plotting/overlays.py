"""Masks drawn over an image in the colours of their classes.

Axes: C classes, H rows, W columns. An image is uint8, (H, W) or (H, W, 3) in RGB; masks are bool (C, H, W).
"""

import cv2
import numpy as np

from seg_pipeline.segmentation.plotting.style import class_colours

TINT = 0.45
"""Share of the class colour in an overlay."""

STRIPE_PIXELS, STRIPE_TINT = 6, 0.75
"""Distance between the stripes of a prediction, in pixels, and the share of the class colour in a stripe."""
TINY_PIXELS, RING_RADIUS = 40, 9
"""Objects of up to this many pixels get a ring, because they would be overlooked; and the radius of the ring."""
FEW_PIXELS = 4
"""Objects of up to this many pixels of the original image get a ring at any size."""
MAX_SPOTS = 20
DASH_PIXELS = 4
_SQUARE = np.ones((3, 3), dtype=np.uint8)
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)


def overlay(
    image: np.ndarray, masks: np.ndarray, *, alpha: float = TINT, colours: np.ndarray | None = None
) -> np.ndarray:
    """The image, uint8 (H, W, 3), with each mask as a tint of its class colour and an outline of one pixel.

    ``colours``, uint8 (C, 3), default to those of the first C classes. If classes overlap, the tint is the mean of
    their colours. Outlines on the same pixels alternate as dashes, so that each is visible.

    Raises:
        ValueError: the image is not uint8 (H, W) or (H, W, 3), or the masks are not bool (C, H, W) of the same size.
    """
    colours = class_colours(len(masks)) if colours is None else colours
    return draw_outlines(tint(check_picture(image, masks), masks, alpha, colours), masks, colours)


def tint(picture: np.ndarray, masks: np.ndarray, alpha: float, colours: np.ndarray) -> np.ndarray:
    """The image, uint8 (H, W, 3), mixed with a share ``alpha`` of the mean colour of each pixel's classes."""
    count = masks.sum(axis=0)
    covered = count > 0
    total = masks[:, covered].T.astype(np.float32) @ colours.astype(np.float32)
    tinted = picture.copy()
    colour = total / count[covered, None]
    tinted[covered] = np.rint((1 - alpha) * picture[covered] + alpha * colour)
    return tinted


def check_picture(image: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The image as uint8 (H, W, 3), after checking that image and masks match."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"image has dtype {image.dtype} and shape {image.shape}, but must be uint8 (H, W) or "
            "(H, W, 3); scale it to 0..255 and select 1 or 3 channels first"
        )
    if masks.dtype != np.bool_ or masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"masks have dtype {masks.dtype} and shape {masks.shape}, but this image needs bool and "
            f"(C, {image.shape[0]}, {image.shape[1]}): one mask per class"
        )
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def draw_outlines(picture: np.ndarray, masks: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The image with the outermost pixels of each mask in full colour."""
    outlines = np.array([_outline(mask) for mask in masks], dtype=bool).reshape(masks.shape)
    shared = outlines.sum(axis=0)
    drawn = picture.copy()
    rows, columns = np.nonzero(shared)
    # this slope makes the classes alternate along rows, columns and both diagonals
    turn = (rows + 2 * columns) // DASH_PIXELS % shared[rows, columns]
    order = np.cumsum(outlines[:, rows, columns], axis=0) - 1
    chosen = (outlines[:, rows, columns] & (order == turn)).argmax(axis=0) if len(masks) else turn
    drawn[rows, columns] = colours[chosen]
    return drawn


def _outline(mask: np.ndarray) -> np.ndarray:
    """Bool (H, W): pixels of the mask with a side on a pixel outside it or on the image border."""
    inner = cv2.erode(mask.astype(np.uint8), _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & (inner == 0)


def overlay_prediction(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, *, side: int) -> np.ndarray:
    """The image, uint8 (h, w, 3), with the prediction as stripes and the ground truth as a solid outline.

    The outline has a dark edge, so that it is visible on any background and in any colour. Stripes and outline can be
    told apart in a greyscale print too. White rings mark spots of either that are too small to see.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        truth: bool (C, H, W).
        predicted: bool (C, H, W).
        side: longer side of the result in pixels; small images are enlarged to keep outlines thin.
    """
    colours = class_colours(len(truth))
    height, width = (max(1, round(size * side / max(image.shape[:2]))) for size in image.shape[:2])
    picture = resized(check_picture(image, truth), (height, width))
    found, true = resized_masks(predicted, (height, width)), resized_masks(truth, (height, width))
    rows, columns = np.ogrid[:height, :width]
    stripes = (rows + columns) % STRIPE_PIXELS < STRIPE_PIXELS // 3
    striped = tint(tint(picture, found, 0.15, colours), found & stripes, STRIPE_TINT, colours)
    marked = draw_outlines(_darken_around(striped, true), true, colours)
    scale = side / max(image.shape[:2])
    for x, y in (tiny_spots(truth | predicted, scale) + 0.5) * scale - 0.5:
        for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.circle(marked, (round(x), round(y)), RING_RADIUS, colour, width, cv2.LINE_AA)
    return marked


def tiny_spots(masks: np.ndarray, scale: float) -> np.ndarray:
    """Centres (x, y), float (N, 2), of the objects in ``masks``, bool (C, H, W), that are too small to see.

    An object is a connected component of one class. It is too small if it has at most ``TINY_PIXELS`` pixels when shown
    enlarged by ``scale``, or at most ``FEW_PIXELS`` in the mask. At most ``MAX_SPOTS`` are returned, the
    largest: more rings would hide a noisy prediction.
    """
    spots, sizes = [np.empty((0, 2))], [np.empty(0)]
    for mask in masks[masks.any(axis=(1, 2))]:
        _, _, stats, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        areas = stats[1:, cv2.CC_STAT_AREA]
        tiny = (areas <= FEW_PIXELS) | (areas * scale**2 <= TINY_PIXELS)
        spots.append(centres[1:][tiny])
        sizes.append(areas[tiny])
    return np.concatenate(spots)[np.argsort(-np.concatenate(sizes), kind="stable")[:MAX_SPOTS]]


def resized(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The image resized to this height and width."""
    shrinks = shape[0] < picture.shape[0]
    return cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def resized_masks(masks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    sized = np.empty((len(masks), *shape), dtype=bool)
    for index, mask in enumerate(masks.view(np.uint8)):
        sized[index] = cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return sized


def _darken_around(picture: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Darken both sides of the masks' edges."""
    drawn = picture.copy()
    for mask in masks.astype(np.uint8):
        if mask.any():
            drawn[cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _SQUARE, borderType=cv2.BORDER_REPLICATE) > 0] = 0
    return drawn
