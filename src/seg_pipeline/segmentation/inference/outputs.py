"""The files of a prediction: masks and overlays of an image as soon as it is done, tables of all at the end.

Axes: C classes, H rows, W columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from seg_pipeline.segmentation.images.decoding import to_rgb8
from seg_pipeline.segmentation.images.masks import Order, decode_rle, encode_rle
from seg_pipeline.segmentation.prediction.bundle import Bundle

TABLE_COLUMNS = ["image_id", "file", "height", "width", "class", "area", "share", "confidence", "peak"]


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """A file that is there whole or not at all, however the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    try:
        write(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def mask_files(image_id: str, bundle: Bundle) -> list[str]:
    """Paths below the output folder: one file an image where classes exclude each other, else one a class."""
    if bundle.task == "multiclass":
        return [f"masks/{image_id}.png"]
    return [f"masks/{folder}/{image_id}.png" for folder in class_folders(bundle.classes)]


def overlay_file(image_id: str) -> str:
    return f"overlays/{image_id}.png"


def class_folders(classes: Sequence[str]) -> list[str]:
    """Class names with nothing that a file system minds; numbered where two would be one."""
    names = [re.sub(r"[^\w-]", "_", name) for name in classes]
    lower = [name.lower() for name in names]
    return [f"{name}_{index + 1}" if lower.count(name.lower()) > 1 else name for index, name in enumerate(names)]


def write_masks(folder: Path, image_id: str, masks: np.ndarray, bundle: Bundle) -> None:
    """Bool (C, H, W) as PNG: 0 none and the classes from 1 on, in their colours; or of each class 0 and 255."""
    files = [folder / file for file in mask_files(image_id, bundle)]
    if bundle.task == "multilabel":
        for path, mask in zip(files, masks, strict=True):
            write_file(path, _png_writer(mask.view(np.uint8) * np.uint8(255)))
        return
    values = (masks * np.arange(1, len(masks) + 1, dtype=np.uint8)[:, None, None]).max(0)
    indexed = Image.fromarray(values, "P")
    indexed.putpalette(b"\0\0\0" + bytes.fromhex("".join(colour[1:] for colour in bundle.colours)))
    write_file(files[0], lambda draft: indexed.save(draft, "PNG"))


def write_overlay(folder: Path, image_id: str, image: np.ndarray, masks: np.ndarray, bundle: Bundle) -> None:
    """The image tinted and outlined by class; of 16 bits, with its percentiles 1 and 99 as black and white."""
    from seg_pipeline.segmentation.plotting import overlay  # imports Matplotlib, a second

    picture = to_rgb8(image, window=None if image.dtype == np.uint8 else (1, 99))
    colours = np.array([list(bytes.fromhex(colour[1:])) for colour in bundle.colours], dtype=np.uint8)
    drawn = overlay(picture, masks, colours=colours)
    write_file(folder / overlay_file(image_id), _png_writer(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)))


def _png_writer(pixels: np.ndarray) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        _, encoded = cv2.imencode(".png", pixels)
        path.write_bytes(encoded.tobytes())

    return write


def area_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A row an image and class: area in pixels, share of the image, mean probability inside, largest anywhere."""
    rows = [
        (record["image_id"], record["file"], height, width, name, area, area / (height * width), confidence, peak)
        for record in records
        for height, width in [(record["height"], record["width"])]
        for name, (_, area, confidence, peak) in record["classes"].items()
    ]
    table = pd.DataFrame(rows, columns=TABLE_COLUMNS)
    return table.astype({"confidence": "float64"})


def submission(records: Iterable[dict[str, Any]], order: Order) -> pd.DataFrame:
    """The table of id, class, predicted: run lengths counted from 1, along rows ("C") or down columns ("F")."""
    rows = [
        (record["image_id"], name, _ordered(rle, record, order))
        for record in records
        for name, (rle, *_) in record["classes"].items()
    ]
    return pd.DataFrame(rows, columns=["id", "class", "predicted"])


def write_csv(path: Path, table: pd.DataFrame) -> None:
    write_file(path, lambda draft: table.to_csv(draft, index=False, lineterminator="\n"))


def _ordered(rle: str, record: dict[str, Any], order: Order) -> str:
    if order == "C":
        return rle
    return encode_rle(decode_rle(rle, (record["height"], record["width"]), order="C"), order="F")


def write_coco(path: Path, records: Iterable[dict[str, Any]], classes: Sequence[str]) -> None:
    """COCO's annotation file: of each image and class that it shows one annotation, run lengths as a list of counts."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in records:
        about = {"id": len(images) + 1, "file_name": record["file"]}
        images.append({**about, "height": record["height"], "width": record["width"]})
        for number, name in enumerate(classes):
            if record["classes"][name][0]:
                annotations.append({"id": len(annotations) + 1, **_annotation(record, name, number + 1, len(images))})
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_file(path, lambda draft: draft.write_text(json.dumps(content), encoding="utf-8"))


def _annotation(record: dict[str, Any], name: str, category: int, image: int) -> dict[str, Any]:
    rle, area, confidence, _ = record["classes"][name]
    shape = record["height"], record["width"]
    mask = decode_rle(rle, shape, order="C")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
    return {
        "image_id": image,
        "category_id": category,
        "segmentation": {"size": list(shape), "counts": coco_counts(mask)},
        "bbox": box,
        "area": area,
        "score": confidence,
        "iscrowd": 1,  # COCO's readers take lists of counts for crowds only
    }


def coco_counts(mask: np.ndarray) -> list[int]:
    """Lengths of runs of 0 and 1 in turns down the columns of a bool mask (H, W), the first of 0."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *counts] if flat[:1].any() else counts
