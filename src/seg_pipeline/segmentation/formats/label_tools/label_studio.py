"""Label Studio: its JSON of tasks, or JSON-MIN; https://labelstud.io/guide/export and /guide/task_format.

Brush strokes are run lengths of the RGBA pixels as a string of bits: 32 bits, the number of values; 5 bits, the bits
per value less 1; four times 4 bits, the bits less 1 of four kinds of length; then blocks: 1 bit, whether one value
repeats; 2 bits, the kind of length; the length less 1; the value, or as many values. The mask is the alpha channel.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from xml.etree import ElementTree as ET

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

LENGTH_BITS = (3, 4, 8, 16)
IMAGE_KEYS = ("image", "img", "ocr", "photo")
UNREAD = {"vector": "a polygon", "bitmask": "brush strokes"}
"""Shapes that enclose pixels but are not read, and what to make of them."""
NO_SHAPES = (
    "choices",
    "labels",
    "textarea",
    "taxonomy",
    "rating",
    "number",
    "datetime",
    "pairwise",
    "ranker",
    "relation",
)
MIN_KEYS = {"annotation_id", "annotator", "lead_time", "created_at", "updated_at"}


def decode_brush(values: list[int], size: Size) -> np.ndarray:
    """Bool mask (H, W) of Label Studio's run lengths.

    Raises:
        ValueError: they are no run lengths, or of another size.
    """
    data = np.array(values, dtype=np.int64)
    if data.size < 8 or data.min() < 0 or data.max() > 255:
        raise ValueError("its run lengths must be bytes")
    text = "".join(f"{one:08b}" for one in data.tolist())
    at = 0

    def take(bits: int) -> int:
        nonlocal at
        at += bits
        if at > len(text):
            raise ValueError("its run lengths end too early")
        return int(text[at - bits : at], 2)

    total, bits = take(32), take(5) + 1
    if total != 4 * size[0] * size[1]:
        raise ValueError(f"its run lengths are of {total // 4} pixels, its image is {size[0]} x {size[1]}")
    kinds = [take(4) + 1 for _ in range(4)]
    out = np.zeros(total, dtype=np.uint8)
    done = 0
    while done < total:
        repeats, length = take(1), take(kinds[take(2)]) + 1
        block: Any = take(bits) if repeats else [take(bits) for _ in range(length)]
        if done + length > total:
            raise ValueError("its run lengths hold too many values")
        out[done : done + length] = block
        done += length
    return out[3::4].reshape(size) > 0


def encode_brush(mask: np.ndarray) -> list[int]:
    """Run lengths of a bool mask (H, W), as ``decode_brush`` reads them."""
    flat = mask.ravel()
    edges = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    parts = [f"{4 * flat.size:032b}", f"{7:05b}", *(f"{bits - 1:04b}" for bits in LENGTH_BITS)]
    for start, end in itertools.pairwise(edges.tolist()):
        value, left = 255 * int(flat[start]), 4 * (end - start)
        while left:
            kind = next((at for at, bits in enumerate(LENGTH_BITS) if left <= 1 << bits), 3)
            length = min(left, 1 << LENGTH_BITS[kind])
            parts.append(f"1{kind:02b}{length - 1:0{LENGTH_BITS[kind]}b}{value:08b}")
            left -= length
    text = "".join(parts)
    text += "0" * (-len(text) % 8)
    return [int(text[at : at + 8], 2) for at in range(0, len(text), 8)]


def is_export(content: Any) -> bool:
    """Whether the content of a JSON file is an export of Label Studio with an image per task."""
    tasks = content[:20] if isinstance(content, list) else []
    return bool(tasks) and all(isinstance(one, dict) and ("data" in one or MIN_KEYS & one.keys()) and _file(one)
                               for one in tasks)  # fmt: skip


def read(path: Path) -> Iterator[Item]:
    """One item per annotation of a task, and one per task that has none or only predictions.

    Raises:
        ValueError: the file is missing or no such export, or its tasks show several images.
    """
    tasks = read_json(path)
    if not is_export(tasks):
        raise ValueError(f"{path}: no export of Label Studio: expected a list of tasks with `data` and `annotations`")
    _refuse_several_images(path, tasks)
    for task in tasks:
        file = _file(task)
        if "data" not in task:  # JSON-MIN
            results = [value for value in task.values() if isinstance(value, list)]
            found = [one for value in results for one in value if isinstance(one, dict)]
            flat = [{"value": one, **one} for one in found]
            yield _item(file, flat, "saved", task.get("annotator"), task.get("updated_at"))
            continue
        given = _annotations(task)
        for one in given:
            state: State = "cancelled" if one.get("was_cancelled") or one.get("skipped") else "saved"
            by = one.get("completed_by")
            by = by.get("email", by.get("id")) if isinstance(by, dict) else by
            yield _item(file, one.get("result") or [], state, by, one.get("updated_at") or one.get("created_at"))
        if not given:
            yield Item(file, [], state="unlabelled")


def _annotations(task: dict[str, Any]) -> list[dict[str, Any]]:
    return task.get("annotations", task.get("completions")) or []


def _refuse_several_images(path: Path, tasks: list[dict[str, Any]]) -> None:
    results = (one for task in tasks for given in _annotations(task) for one in given.get("result") or [])
    shown = {
        (str(one.get("to_name")), one.get("item_index") or 0) for one in results if _kind(one) not in ("", "choice")
    }
    if len({name for name, _ in shown}) > 1 or any(index for _, index in shown):
        places = ", ".join(f"{name} {index}" if index else name for name, index in sorted(shown))
        raise ValueError(f"{path}: its tasks show several images ({places}), and which of them a shape lies on is not "
                         "read; make a task of each image")  # fmt: skip


def _file(task: dict[str, Any]) -> str:
    data = task.get("data", task)
    texts = {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}
    file = next((texts[key] for key in IMAGE_KEYS if key in texts), next(iter(texts.values()), ""))
    local = parse_qs(urlsplit(file).query).get("d") if "?d=" in file else None
    return local[0] if local else file


def _item(file: str, results: list[dict[str, Any]], state: State, by: Any, when: Any) -> Item:
    labels: dict[Any, list[str]] = {}
    for one in results:
        names = next((value for key, value in one.get("value", {}).items() if key.endswith("labels") and value), None)
        if names:
            labels.setdefault(one.get("id", id(one)), [*map(str, names)])
    drawn: dict[Any, Shape] = {}
    size = None
    for one in results:
        key, value = one.get("id", id(one)), one.get("value", {})
        if one.get("original_height"):
            size = int(one["original_height"]), int(one["original_width"])
        kind = _kind(one)
        if kind and (key not in drawn or drawn[key].draw is None):
            drawn[key] = _shape(kind, value, int(one.get("image_rotation") or 0))
    named = ((shape, labels.get(key, [])) for key, shape in drawn.items())
    # a region of several labels belongs to each of them
    shapes = [one for shape, names in named for one in ([shape._replace(label=name) for name in names] or [shape])]
    return Item(file, shapes, size, state, str(by or ""), str(when or ""))


def _kind(one: dict[str, Any]) -> str:
    """What a result shows; "" if it is no shape."""
    value = one.get("value") or {}
    if "rle" in value:
        return "brush"
    if "points" in value:
        return "polygon"
    if "radiusX" in value:
        return "ellipse"
    if "x" in value:
        return "rectangle" if value.get("height") and value.get("rotation") is not None else "key point"
    if "vertices" in value or "imageDataURL" in value:
        return "vector" if "vertices" in value else "bitmask"
    kind = str(one.get("type") or "")
    return "choice" if kind == "choices" else "" if kind in NO_SHAPES else kind


def _shape(kind: str, value: dict[str, Any], rotation: int) -> Shape:
    def draw(size: Size) -> np.ndarray:
        if rotation % 360:
            raise ValueError(f"its image was turned by {rotation} degrees in Label Studio, which is not read")
        if kind in UNREAD:
            raise ValueError(f"a {kind} is not read; make it {UNREAD[kind]}")
        height, width = size
        if kind == "brush":
            return decode_brush(value["rle"], size)
        if kind == "polygon":
            return fill_polygon([(x * width / 100, y * height / 100) for x, y in value["points"]], size)
        if value.get("rotation"):
            raise ValueError("a turned ellipse is not read; make it a polygon")
        across = value["x"] * width / 100, value["radiusX"] * width / 100
        down = value["y"] * height / 100, value["radiusY"] * height / 100
        return fill_ellipse(across[0], down[0], across[1], down[1], size)

    masks = ("brush", "polygon", "ellipse", "bitmask", *(["vector"] if value.get("closed") else []))
    return Shape(None, kind, draw if kind in masks else None)


def write(folder: Path, pictures: Iterable[Picture], colours: dict[str, str], style: Style) -> None:
    """label_studio.json, tasks with predictions, and label_studio.xml, the labelling interface with the colours."""
    tasks = []
    for picture in pictures:
        results = list(_results(picture, style))
        numbered = [{"id": f"region{number}", **one} for number, one in enumerate(results)]
        prediction = {"model_version": "seg_pipeline", "result": numbered}
        tasks.append({"data": {"image": style.url.format(quote(picture.path))}, "predictions": [prediction]})
    (folder / "label_studio.json").write_text(json.dumps(tasks), encoding="utf-8")
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value="$image", zoom="true")
    for kind, name in (("PolygonLabels", "polygon"), ("BrushLabels", "brush")):
        labels = ET.SubElement(view, kind, name=name, toName="image")
        for label, colour in colours.items():
            ET.SubElement(labels, "Label", value=label, background=colour)
    ET.indent(view)
    ET.ElementTree(view).write(folder / "label_studio.xml", encoding="utf-8")


def _results(picture: Picture, style: Style) -> Iterator[dict[str, Any]]:
    height, width = picture.size
    common = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
    if style.shapes == "masks":
        for label, mask in picture.parts():
            if mask.any():
                value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": [label]}
                yield {**common, "from_name": "brush", "type": "brushlabels", "value": value}
        return
    for region in style.regions(picture):
        assert region.polygon is not None
        points = (region.polygon * (100 / width, 100 / height)).tolist()
        outline: dict[str, Any] = {"points": points, "closed": True, "polygonlabels": [region.label]}
        yield {**common, "from_name": "polygon", "type": "polygonlabels", "value": outline}
