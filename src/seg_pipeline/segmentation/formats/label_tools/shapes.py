"""Regions of masks as polygons, and back.

Points are x and y, and a pixel covers [x, x + 1) x [y, y + 1), unless a function says otherwise. H rows, W columns.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from seg_pipeline.segmentation.formats.coco_masks import decode_segmentation

Size = tuple[int, int]
Points = Sequence[Sequence[float]]
State = Literal["saved", "listed", "unlabelled", "cancelled"]


class Shape(NamedTuple):
    label: str | None
    kind: str
    """As the tool calls it: polygon, rectangle, ..."""
    draw: Callable[[Size], np.ndarray] | None = None
    """Bool mask (H, W) at the image's size, or ValueError; None: a box, line or point, which is no mask."""


class Item(NamedTuple):
    """What one person said about one image."""

    file: str
    shapes: list[Shape]
    size: Size | None = None
    """Height and width that the shapes were drawn at, if the tool says so."""
    state: State = "saved"
    """saved: someone saved it, even without a shape; listed: the tool does not say whether anyone opened it."""
    annotator: str = ""
    when: str = ""
    """ISO time of the last change."""
    num_bytes: int | None = None
    """Of the image's file when it was annotated."""


class Picture(NamedTuple):
    """Predicted masks of an image."""

    file: str
    """Path below the folder of the images, with forward slashes."""
    path: str
    """Where the image is: absolute, or below the folder of the annotations if it was copied there."""
    size: Size
    masks: dict[str, np.ndarray]
    """Bool (H, W) by class."""
    objects: Mapping[str, np.ndarray] = MappingProxyType({})
    """Label maps, int32 (H, W), by class, of a model that knows objects: each is written as a shape of its own."""

    def parts(self) -> Iterator[tuple[str, np.ndarray]]:
        """Class and bool mask (H, W) of each object, or of each class without objects."""
        for label, mask in self.masks.items():
            labels = self.objects.get(label)
            masks = [mask] if labels is None else (labels == number for number in np.unique(labels[labels > 0]))
            yield from ((label, one) for one in masks)


class Region(NamedTuple):
    """Connected pixels of a class."""

    label: str
    left: int
    top: int
    mask: np.ndarray
    """Bool, the bounding box alone."""
    polygon: np.ndarray | None
    """(points, 2) in the whole image; None where masks are wanted."""


@dataclass
class Style:
    """How regions are written, and what was reached."""

    shapes: Literal["polygons", "masks"] = "polygons"
    polygon_iou: float = 0.98
    """Least IoU of a polygon with the region that it outlines."""
    url: str = "/data/local-files/?d={}"
    """Where Label Studio finds an image, whose path takes the place of {}."""
    reached: list[dict[str, Any]] = field(default_factory=list)
    outlines: dict[tuple[str, int, int, bool], tuple[np.ndarray, float]] = field(default_factory=dict)

    def regions(self, picture: Picture, *, inclusive: bool = False, polygons: bool = False) -> Iterator[Region]:
        """Regions of all classes; ``polygons``: the tool has no masks; ``inclusive``: see ``outline``."""
        masks = self.shapes == "masks" and not polygons
        for part, (label, mask) in enumerate(picture.parts()):
            _, numbers, boxes, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
            if masks and label in picture.objects:  # one mask, though the object be in pieces
                numbers, boxes = mask, np.array([boxes[0], (*cv2.boundingRect(mask.view(np.uint8)), 0)])
            for number, (left, top, width, height, _) in enumerate(boxes.tolist()[1:], start=1):
                own = numbers[top : top + height, left : left + width] == number
                if masks:
                    yield Region(label, left, top, own, None)
                    continue
                key = picture.file, part, number, inclusive
                if key not in self.outlines:  # several tools share them
                    self.outlines[key] = outline(own, self.polygon_iou, inclusive=inclusive)
                points, iou = self.outlines[key]
                self.reached.append({"file": picture.file, "class": label, "points": len(points), "iou": iou})
                yield Region(label, left, top, own, points + np.array([left, top]))


def outline(mask: np.ndarray, least_iou: float, *, inclusive: bool = False) -> tuple[np.ndarray, float]:
    """One polygon (points, 2) with as few points as ``least_iou`` allows around connected pixels, and its IoU.

    A hole is cut open to the outside, along a line that is walked twice, as the tools have no holes.

    Args:
        mask: bool (H, W).
        inclusive: points are pixels, all of which belong to the region, as in labelme; else they are corners of pixels.
    """
    fill = fill_inclusive if inclusive else fill_polygon
    rings = _rings(mask, inclusive=inclusive)
    best = _joined(rings)
    reached = iou(fill(best, mask.shape), mask)
    low, high = 0.0, 0.05 * float(np.hypot(*mask.shape)) + 1
    for _ in range(8):
        middle = (low + high) / 2
        fewer = _joined([cv2.approxPolyDP(ring, middle, closed=True)[:, 0] for ring in rings])
        found = iou(fill(fewer, mask.shape), mask) if len(fewer) > 2 else 0.0
        if found >= least_iou:
            best, reached, low = fewer, found, middle
        else:
            high = middle
    return best, reached


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def _rings(mask: np.ndarray, *, inclusive: bool) -> list[np.ndarray]:
    """Exact outlines (points, 2) of connected pixels, the outer one first."""
    # Each pixel as 2 x 2: the border then meets both sides of every corner, and half its coordinates are the corners.
    scale = 1 if inclusive else 2
    drawn = mask.view(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)
    found, parents = cv2.findContours(drawn, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = [ring[:, 0] if inclusive else (ring[:, 0] + 1) // 2 for ring in found]
    order = sorted(range(len(rings)), key=lambda at: parents[0][at][3] >= 0)
    exact = [cv2.approxPolyDP(rings[at].astype(np.int32), 0, closed=True)[:, 0] for at in order]
    return [ring if len(ring) > 2 else np.resize(ring, (3, 2)) for ring in exact]  # a pixel or a line of them


def _joined(rings: list[np.ndarray]) -> np.ndarray:
    """The first ring with the others, its holes, spliced in where they are nearest."""
    joined = rings[0]
    for hole in rings[1:]:
        if len(hole) < 3:
            continue
        distance = np.abs(joined[:, None] - hole[None]).sum(axis=2)
        at, start = np.unravel_index(distance.argmin(), distance.shape)
        cut = np.concatenate([hole[start:], hole[: start + 1]])
        joined = np.concatenate([joined[: at + 1], cut, joined[at:]])
    return joined


def fill_polygon(points: Points | np.ndarray, size: Size) -> np.ndarray:
    """Bool mask (H, W) of a polygon, as COCO fills it. Raises ValueError for a polygon that is none."""
    return decode_segmentation([[float(one) for point in points for one in point]], size)


def fill_inclusive(points: Points | np.ndarray, size: Size) -> np.ndarray:
    """The same with points that are pixels, as labelme fills it: the border belongs to the region."""
    from PIL import Image, ImageDraw

    if len(points) < 3:
        raise ValueError(f"a polygon must have at least 3 points, found {len(points)}")
    canvas = Image.new("1", size[::-1])
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in points], outline=1, fill=1)
    return np.array(canvas, dtype=bool)


def fill_ellipse(x: float, y: float, radius_x: float, radius_y: float, size: Size) -> np.ndarray:
    """Bool mask (H, W) of the pixels whose centre lies in an upright ellipse."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    reach = max(radius_x, 1e-9), max(radius_y, 1e-9)
    return ((columns + 0.5 - x) / reach[0]) ** 2 + ((rows + 0.5 - y) / reach[1]) ** 2 <= 1


def check_fits(box: Size, size: Size) -> None:
    """Raise ValueError for a mask that is larger than its image, before it takes memory."""
    if min(box) < 1 or box[0] > size[0] or box[1] > size[1]:
        raise ValueError(f"its mask of {box[0]} x {box[1]} does not fit into an image of {size[0]} x {size[1]}")


def paste(mask: np.ndarray, left: int, top: int, size: Size) -> np.ndarray:
    """Bool mask (H, W) with a smaller one at its place; what lies outside is cut off."""
    whole = np.zeros(size, dtype=bool)
    rows = slice(max(top, 0), max(min(top + mask.shape[0], size[0]), 0))
    columns = slice(max(left, 0), max(min(left + mask.shape[1], size[1]), 0))
    whole[rows, columns] = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return whole
