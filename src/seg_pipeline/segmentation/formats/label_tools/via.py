"""VIA, VGG's image annotator: a project or an export of its annotations as JSON; https://www.robots.ox.ac.uk/~vgg/software/via/."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from seg_pipeline.segmentation.formats.json_files import read_json
from seg_pipeline.segmentation.formats.label_tools.shapes import (
    Item,
    Picture,
    Shape,
    Size,
    State,
    Style,
    fill_ellipse,
    fill_polygon,
)

CLASS_KEYS = ("class", "label", "name", "type", "category")
"""Attributes of a region that name its class, the likeliest first, if there are several."""

BEYOND = 1.05
"""Part of a side that a polygon drawn on the image may reach to."""


def entries(content: Any) -> list[dict[str, Any]]:
    """The images of a project or of an export; [] if it is none."""
    content = content.get("_via_img_metadata", content) if isinstance(content, dict) else {}
    found = list(content.values()) if isinstance(content, dict) else []
    fits = all(isinstance(one, dict) and {"filename", "regions"} <= one.keys() for one in found)
    return found if found and fits else []


def read(path: Path) -> Iterator[Item]:
    """The images of a JSON file; VIA does not say which of them anyone opened.

    Raises:
        ValueError: the file is missing or none of VIA, or several attributes may name the class.
    """
    found = entries(read_json(path))
    if not found:
        raise ValueError(f"{path}: no annotations of VIA: expected entries with `filename` and `regions`")
    for one in found:
        regions = one["regions"]
        regions = list(regions.values() if isinstance(regions, dict) else regions)
        _refuse_unclear_class(path, regions)
        shapes = [shape for region in regions for shape in _shapes(region)]
        size = one.get("size")
        num_bytes = size if isinstance(size, int) and size > 0 else None
        state: State = "saved" if shapes else "listed"
        yield Item(str(one["filename"]), shapes, state=state, num_bytes=num_bytes)


def _refuse_unclear_class(path: Path, regions: list[dict[str, Any]]) -> None:
    given = {key: None for region in regions for key in region.get("region_attributes") or {}}
    if len(given) > 1 and not given.keys() & {*CLASS_KEYS}:
        raise ValueError(f"{path}: regions have the attributes {', '.join(given)}, and none is called "
                         f"{', '.join(CLASS_KEYS[:-1])} or {CLASS_KEYS[-1]}; rename the one "
                         "that names the class")  # fmt: skip


def _shapes(region: dict[str, Any]) -> list[Shape]:
    """The shape of a region, once per class that it has."""
    given = region.get("region_attributes") or {}
    key = next((key for key in CLASS_KEYS if key in given), next(iter(given), None) if len(given) == 1 else None)
    value = given.get(key or "")
    # of check boxes: {"crack": true}
    names = [name for name, on in value.items() if on] if isinstance(value, dict) else [value]
    about = region.get("shape_attributes") or {}
    kind = str(about.get("name"))
    drawn = kind in ("polygon", "circle", "ellipse")
    draw = (lambda size: _drawn(kind, about, size)) if drawn else None
    return [Shape(None if name in (None, "") else str(name), kind, draw) for name in names or [None]]


def _drawn(kind: str, about: dict[str, Any], size: Size) -> np.ndarray:
    if kind == "polygon":
        points = list(zip(about["all_points_x"], about["all_points_y"], strict=True))
        furthest = max(x for x, _ in points), max(y for _, y in points)
        if any(most > BEYOND * side + 2 for most, side in zip(furthest, size[::-1], strict=True)):  # VIA has no sizes
            raise ValueError(f"it reaches to x {furthest[0]:g} and y {furthest[1]:g}, but the image is {size[0]} x "
                             f"{size[1]} (height x width): it was drawn on a larger one")  # fmt: skip
        return fill_polygon(points, size)
    if about.get("theta"):
        raise ValueError("a turned ellipse is not read; make it a polygon")
    radii = (about["rx"], about["ry"]) if kind == "ellipse" else (about["r"], about["r"])
    return fill_ellipse(about["cx"], about["cy"], *radii, size)


def write(folder: Path, pictures: Iterable[Picture], colours: dict[str, str], style: Style) -> None:
    """via.json, a project with the classes as options; VIA has polygons alone, and chooses colours itself."""
    images = {}
    for picture in pictures:
        regions = [
            {
                "shape_attributes": {
                    "name": "polygon",
                    "all_points_x": region.polygon[:, 0].tolist(),
                    "all_points_y": region.polygon[:, 1].tolist(),
                },
                "region_attributes": {"class": region.label},
            }
            for region in style.regions(picture, polygons=True)
            if region.polygon is not None
        ]
        images[f"{picture.path}-1"] = {"filename": picture.path, "size": -1, "regions": regions, "file_attributes": {}}
    options = dict.fromkeys(colours, "")
    attribute = {"type": "dropdown", "description": "", "options": options, "default_options": {}}
    project = {
        "_via_settings": {
            "ui": {"image": {"region_label": "class", "region_color": "class"}},
            "core": {"buffer_size": 18, "filepath": {}, "default_filepath": ""},
            "project": {"name": "predictions"},
        },
        "_via_img_metadata": images,
        "_via_attributes": {"region": {"class": attribute}, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(images),
    }
    (folder / "via.json").write_text(json.dumps(project), encoding="utf-8")
