"""CVAT for images 1.1, an XML file; https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from seg_pipeline.segmentation.formats.label_tools.shapes import (
    Item,
    Picture,
    Region,
    Shape,
    Size,
    State,
    Style,
    check_fits,
    fill_ellipse,
    fill_polygon,
    paste,
)

NO_SHAPES = {"tag"}


def read(path: Path) -> Iterator[Item]:
    """The images of an XML file. CVAT lists all of a task; those of a finished one count as saved.

    Raises:
        ValueError: the file is missing or no such file, or it holds tracks.
    """
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError) as error:
        raise ValueError(f"{path}: cannot be read as XML of CVAT: {error}") from None
    if tracks := len(root.findall("track")):
        raise ValueError(f"{path}: it holds tracks of a video ({tracks}), which are not read; export the task as "
                         "CVAT for images 1.1, where each frame has its shapes")  # fmt: skip
    finished = root.findtext("meta/task/status") == "completed" or root.findtext("meta/job/status") == "completed"
    for image in root.iter("image"):
        size = int(image.get("height") or 0), int(image.get("width") or 0)
        ordered = sorted(image, key=lambda one: int(one.get("z_order") or 0))
        shapes = [_shape(one) for one in ordered if one.tag not in NO_SHAPES]
        state: State = "saved" if finished or shapes else "listed"
        yield Item(image.get("name") or "", shapes, size if all(size) else None, state)


def _shape(element: ET.Element) -> Shape:
    of_kind: dict[str, Callable[[ET.Element, Size], np.ndarray]] = {
        "polygon": _polygon,
        "mask": _mask,
        "ellipse": _ellipse,
    }
    draw = of_kind.get(element.tag)
    return Shape(element.get("label"), element.tag, draw and partial(draw, element))


def _polygon(element: ET.Element, size: Size) -> np.ndarray:
    points = [tuple(map(float, pair.split(","))) for pair in (element.get("points") or "").split(";") if pair]
    return fill_polygon(points, size)


def _ellipse(element: ET.Element, size: Size) -> np.ndarray:
    if float(element.get("rotation") or 0):
        raise ValueError("a turned ellipse is not read; make it a polygon")
    x, y, radius_x, radius_y = (float(element.get(name) or "nan") for name in ("cx", "cy", "rx", "ry"))
    return fill_ellipse(x, y, radius_x, radius_y, size)


def _mask(element: ET.Element, size: Size) -> np.ndarray:
    """Run lengths along the rows of a box, off first."""
    left, top, width, height = (int(float(element.get(name) or 0)) for name in ("left", "top", "width", "height"))
    counts = [int(one) for one in (element.get("rle") or "").split(",") if one.strip()]
    check_fits((height, width), size)
    if min(counts, default=0) < 0 or sum(counts) != width * height:
        raise ValueError(f"its run lengths have {sum(counts)} pixels, its box has {width * height}")
    box = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    return paste(box, left, top, size)


def write(folder: Path, pictures: Iterable[Picture], colours: dict[str, str], style: Style) -> None:
    """cvat.xml, and cvat_labels.json for the field Raw of a new task, so that its labels have these colours."""
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for name, colour in colours.items():
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "color").text = colour
        ET.SubElement(label, "attributes")
    for number, picture in enumerate(pictures):
        height, width = map(str, picture.size)
        image = ET.SubElement(root, "image", id=str(number), name=picture.file, width=width, height=height)
        for region in style.regions(picture):
            common = {"label": region.label, "source": "auto", "occluded": "0", "z_order": "0"}
            if region.polygon is None:
                ET.SubElement(image, "mask", common | _box(region))
            else:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in region.polygon)
                ET.SubElement(image, "polygon", common | {"points": points})
    ET.indent(root)
    ET.ElementTree(root).write(folder / "cvat.xml", encoding="utf-8", xml_declaration=True)
    given: list[dict[str, Any]] = [{"name": name, "color": one, "attributes": []} for name, one in colours.items()]
    (folder / "cvat_labels.json").write_text(json.dumps(given, indent=1), encoding="utf-8")


def _box(region: Region) -> dict[str, str]:
    runs = [(bool(value), len(list(run))) for value, run in itertools.groupby(region.mask.ravel().tolist())]
    counts = [0] * runs[0][0] + [number for _, number in runs]
    height, width = region.mask.shape
    values = {"left": region.left, "top": region.top, "width": width, "height": height}
    return {"rle": ", ".join(map(str, counts)), **{name: str(value) for name, value in values.items()}}
