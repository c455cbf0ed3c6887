"""Supervisely: a JSON file per image in ann/, beside img/; https://docs.supervisely.com/data-organization/00_ann_format_navi."""

import base64
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from seg_pipeline.segmentation.formats.json_files import read_json
from seg_pipeline.segmentation.formats.label_tools.shapes import Item, Picture, Shape, Size, Style, check_fits, paste
from seg_pipeline.segmentation.formats.named_files import plain_path
from seg_pipeline.segmentation.images.listing import list_files

FAR = 1 << 20
"""Pixels from the image's corner."""


def read(folder: Path) -> Iterator[Item]:
    """The annotation files of Supervisely below a folder; others are passed over."""
    for name in list_files(folder, "**/*.json"):
        content = read_json(folder / name)
        if isinstance(content, dict) and isinstance(content.get("objects"), list) and "size" in content:
            size = int(content["size"]["height"]), int(content["size"]["width"])
            above, _, file = name.removesuffix(".json").rpartition("/")
            image = plain_path(f"{above}/../img/{file}") if above else file
            yield Item(image, [_shape(one) for one in content["objects"]], size)


def _shape(one: dict[str, Any]) -> Shape:
    kind = str(one.get("geometryType") or ("bitmap" if one.get("bitmap") else "polygon"))
    draw = {"polygon": _polygon, "bitmap": _bitmap}.get(kind)
    return Shape(one.get("classTitle"), kind, draw and partial(draw, one))


def _polygon(one: dict[str, Any], size: Size) -> np.ndarray:
    """Points are pixels, and borders are filled with the region, as Supervisely's SDK draws them."""
    drawn = np.zeros(size, dtype=np.uint8)
    for rings, value in (([one["points"]["exterior"]], 1), (one["points"].get("interior") or [], 0)):
        for ring in rings:
            if len(ring) < 3:
                raise ValueError(f"a polygon must have at least 3 points, found {len(ring)}")
            points = np.asarray(ring, dtype=float)
            if not (np.abs(points) < FAR).all():  # OpenCV walks along each line, and NaN is nowhere
                raise ValueError("its points lie far outside the image")
            cv2.fillPoly(drawn, [np.round(points).astype(np.int32)], value)
    return drawn > 0


def _bitmap(one: dict[str, Any], size: Size) -> np.ndarray:
    left, top = one["bitmap"]["origin"]
    try:
        most = 100_000 + 8 * size[0] * size[1]  # above what a PNG of the image takes
        png = zlib.decompressobj().decompress(base64.b64decode(one["bitmap"]["data"]), most)
        image = Image.open(io.BytesIO(png))
        check_fits(image.size[::-1], size)
        seen = "transparency" in image.info or image.mode in ("LA", "PA", "RGBA")
        values = np.array(image.convert("RGBA"))[..., 3] if seen else np.array(image.convert("RGB")).max(axis=-1)
    except (OSError, zlib.error) as error:
        raise ValueError(f"its bitmap cannot be decoded: {error}") from None
    return paste(values > 0, left, top, size)


def write(folder: Path, pictures: Iterable[Picture], colours: dict[str, str], _: Style) -> None:
    """supervisely/, with meta.json and a JSON file of bitmaps per image in dataset/ann/."""
    place = folder / "supervisely"
    for picture in pictures:
        path = place / "dataset/ann" / f"{picture.file}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "description": "",
            "tags": [],
            "size": {"height": picture.size[0], "width": picture.size[1]},
            "objects": [_written(*given) for given in picture.parts() if given[1].any()],
        }
        path.write_text(json.dumps(content), encoding="utf-8")
    classes = [{"title": name, "shape": "bitmap", "color": colour} for name, colour in colours.items()]
    (place / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}), encoding="utf-8")


def _written(label: str, mask: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, format="PNG")
    bitmap = {"data": base64.b64encode(zlib.compress(file.getvalue())).decode(), "origin": [0, 0]}
    return {"classTitle": label, "geometryType": "bitmap", "bitmap": bitmap, "tags": []}
