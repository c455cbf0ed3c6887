"""labelme: one JSON file per image; https://github.com/wkentaro/labelme, ``utils/shape.py`` draws its shapes."""

import base64
import glob
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seg_pipeline.segmentation.formats.json_files import read_json
from seg_pipeline.segmentation.formats.label_tools.shapes import (
    Item,
    Picture,
    Region,
    Shape,
    Size,
    Style,
    check_fits,
    fill_ellipse,
    fill_inclusive,
    paste,
)
from seg_pipeline.segmentation.formats.named_files import plain_path
from seg_pipeline.segmentation.images.listing import PICTURES, list_files

BACKGROUND = "_background_"
"""Label of shapes that erase what was drawn before them; labelme paints one shape over the other."""


def read(folder: Path) -> Iterator[Item]:
    """The JSON files of labelme below a folder; others are passed over."""
    for name in list_files(folder, "**/*.json"):
        content = read_json(folder / name)
        if isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content:
            height, width = content.get("imageHeight"), content.get("imageWidth")
            size = (int(height), int(width)) if height and width else None
            shapes = _erased([*map(_shape, content["shapes"])])
            yield Item(_image(folder, name, str(content["imagePath"])), shapes, size)


def _erased(shapes: list[Shape]) -> list[Shape]:
    """Shapes without what background erases, and without background."""
    kept: list[Shape] = []
    for shape in shapes:
        if shape.label == BACKGROUND and shape.draw:
            kept = [one._replace(draw=one.draw and partial(_without, one.draw, shape.draw)) for one in kept]
        else:
            kept.append(shape)
    return kept


def _without(draw: Callable[[Size], np.ndarray], erased: Callable[[Size], np.ndarray], size: Size) -> np.ndarray:
    return draw(size) & ~erased(size)


def _image(folder: Path, name: str, given: str) -> str:
    """The image that a JSON file names; if there is none, the one beside it with its name, which labelme opens too."""
    above = name.rpartition("/")[0]
    stated = plain_path(f"{above}/{given}" if above else given)
    if not (folder / stated).is_file():
        beside = [
            one
            for one in list_files(folder / above, f"{glob.escape(Path(name).stem)}.*")
            if one.lower().endswith(PICTURES)
        ]
        if len(beside) == 1:
            return plain_path(f"{above}/{beside[0]}" if above else beside[0])
    return stated


def _shape(shape: dict[str, Any]) -> Shape:
    kind, points = str(shape.get("shape_type") or "polygon"), shape.get("points") or []
    draw = {"polygon": _polygon, "circle": _circle, "mask": _mask}.get(kind)
    return Shape(shape.get("label"), kind, draw and partial(draw, points, shape))


def _polygon(points: list, _: dict, size: Size) -> np.ndarray:
    return fill_inclusive(points, size)


def _circle(points: list, _: dict, size: Size) -> np.ndarray:
    (x, y), (edge_x, edge_y) = points
    radius = math.hypot(x - edge_x, y - edge_y)
    return fill_ellipse(x + 0.5, y + 0.5, radius, radius, size)


def _mask(points: list, shape: dict, size: Size) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(shape["mask"])))
    check_fits(image.size[::-1], size)
    drawn = np.array(image.convert("L")) > 0
    return paste(drawn, round(points[0][0]), round(points[0][1]), size)


def write(folder: Path, pictures: Iterable[Picture], colours: dict[str, str], style: Style) -> None:
    """A JSON file per image in labelme/, and the labels with their colours, for ``labelme --config labelmerc.yaml``."""
    for picture in pictures:
        path = folder / "labelme" / Path(picture.file).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        up = "" if Path(picture.path).is_absolute() else "../" * (picture.file.count("/") + 1)
        path.write_text(json.dumps(document(picture, up + picture.path, style)), encoding="utf-8")
    shown = {name: [*bytes.fromhex(colour[1:])] for name, colour in colours.items()}
    settings = {"labels": [*colours], "shape_color": "manual", "label_colors": shown, "validate_label": "exact"}
    (folder / "labelme" / "labelmerc.yaml").write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML


def document(picture: Picture, image: str, style: Style) -> dict[str, Any]:
    """The contents of a picture's file; ``image`` is the path of the image from that file."""
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [_written(one) for one in style.regions(picture, inclusive=True)],
        "imagePath": image,
        "imageData": None,
        "imageHeight": picture.size[0],
        "imageWidth": picture.size[1],
    }


def _written(region: Region) -> dict[str, Any]:
    shape: dict[str, Any] = {"label": region.label, "group_id": None, "description": "", "flags": {}, "mask": None}
    if region.polygon is not None:
        return {**shape, "shape_type": "polygon", "points": region.polygon.astype(float).tolist()}
    file = io.BytesIO()
    Image.fromarray(region.mask).save(file, format="PNG")
    rows, columns = region.mask.shape
    box = [[region.left, region.top], [region.left + columns - 1, region.top + rows - 1]]
    return {**shape, "shape_type": "mask", "points": box, "mask": base64.b64encode(file.getvalue()).decode()}
