"""Output files of inference: masks and overlays after each image, tables of all images at the end.

Axes: C classes, H rows, W columns.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from seg_pipeline.segmentation.formats.coco_masks import coco_counts
from seg_pipeline.segmentation.images.encoding import write_png
from seg_pipeline.segmentation.images.intensities import to_rgb8
from seg_pipeline.segmentation.images.masks import Order, decode_rle, encode_rle
from seg_pipeline.segmentation.images.tiff import ExtraTag, write_mask
from seg_pipeline.segmentation.inference.class_folders import class_folders
from seg_pipeline.segmentation.inference.object_outputs import coco_objects
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.storage.atomic import replacing

TABLE_COLUMNS = ["image_id", "file", "height", "width", "class", "area", "share", "confidence", "peak"]
TABLE_COLUMNS += ["uncertainty", "look_at_this"]  # of the image, repeated in each of its rows


def mask_files(image_id: str, bundle: Bundle, *, georeferenced: bool = False) -> list[str]:
    """Paths in the output folder: one file per image for multiclass tasks, one per class for multilabel tasks."""
    name = f"{image_id}.tif" if georeferenced else f"{image_id}.png"
    if bundle.task == "multiclass":
        return [f"masks/{name}"]
    return [f"masks/{folder}/{name}" for folder in class_folders(bundle.classes)]


def overlay_file(image_id: str) -> str:
    return f"overlays/{image_id}.png"


def map_file(image_id: str, kind: str) -> str:
    return f"{kind}/{image_id}.png"


def write_masks(
    folder: Path, image_id: str, masks: np.ndarray, bundle: Bundle, georeference: Sequence[ExtraTag] = ()
) -> None:
    """Write bool masks (C, H, W) as PNG, or as GeoTIFF with the georeference of the image.

    Multiclass: one palette image, 0 for background and the classes from 1, in their colours. Multilabel: one image of 0
    and 255 per class.
    """
    files = [folder / file for file in mask_files(image_id, bundle, georeferenced=bool(georeference))]
    if bundle.task == "multiclass":
        image = palette_image(masks, bundle.colours)
        with replacing(files[0]) as temporary:
            if georeference:
                palette = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)
                write_mask(temporary, np.asarray(image), georeference, palette)
            else:
                image.save(temporary, "PNG")
        return
    for path, mask in zip(files, masks, strict=True):
        values = mask.view(np.uint8) * np.uint8(255)
        if georeference:
            with replacing(path) as temporary:
                write_mask(temporary, values, georeference)
        else:
            _write_png(path, values)


def palette_image(masks: np.ndarray, colours: Sequence[str]) -> Image.Image:
    """Bool masks (C, H, W) of a multiclass task as one image: 0 is background, the classes count from 1."""
    image = Image.fromarray((masks * np.arange(1, len(masks) + 1, dtype=np.uint8)[:, None, None]).max(0))
    image.putpalette(bytes(3) + bytes.fromhex("".join(colour.removeprefix("#") for colour in colours)))
    return image


def write_overlay(folder: Path, image_id: str, image: np.ndarray, masks: np.ndarray, bundle: Bundle) -> None:
    """Write the image tinted and outlined by class; 16-bit images are shown between their percentiles 1 and 99."""
    from seg_pipeline.segmentation.plotting.overlays import overlay  # imports Matplotlib, which takes a second

    shown = to_rgb8(image, window=None if image.dtype == np.uint8 else (1, 99))
    colours = np.array([list(bytes.fromhex(colour[1:])) for colour in bundle.colours], dtype=np.uint8)
    _write_png(folder / overlay_file(image_id), overlay(shown, masks, colours=colours))


def write_map(folder: Path, image_id: str, kind: str, values: np.ndarray) -> None:
    """Write a map of the uncertainty or spread, float32 (H, W) from 0 to 1, as a grey PNG from 0 to 255."""
    _write_png(folder / map_file(image_id, kind), np.rint(values * 255).astype(np.uint8))


def _write_png(path: Path, pixels: np.ndarray) -> None:
    with replacing(path) as temporary:
        write_png(temporary, pixels)


def area_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row per image and class: area in pixels, share of the image, mean probability inside the mask, peak, and the
    image's uncertainty."""
    rows = [
        (*image, height, width, name, area, area / (height * width), confidence, peak, *uncertainty)
        for record in records
        for image in [(record["image_id"], record["file"])]
        for height, width in [(record["height"], record["width"])]
        for uncertainty in [(record["uncertainty"], record["look_at_this"])]
        for name, (_, area, confidence, peak) in record["classes"].items()
    ]
    table = pd.DataFrame(rows, columns=TABLE_COLUMNS)
    return table.astype({"confidence": "float64", "look_at_this": "boolean"})


def rle_table(records: Iterable[dict[str, Any]], order: Order) -> pd.DataFrame:
    """Table of id, class and predicted: run lengths counted from 1, along rows ("C") or down columns ("F")."""
    rows = [
        (record["image_id"], name, _in_order(rle, record, order))
        for record in records
        for name, (rle, *_) in record["classes"].items()
    ]
    return pd.DataFrame(rows, columns=["id", "class", "predicted"])


def write_csv(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Put an apostrophe before every text that a spreadsheet would run, such as a file called ``=cmd.png``.

    Text that starts with an apostrophe gets a second one, so that removing the first restores the text. Source: OWASP,
    "CSV Injection".
    """
    texts = table.select_dtypes(exclude=["number", "bool", "boolean"]).columns
    return table.assign(**{name: table[name].map(_without_formula, na_action="ignore") for name in texts})


def _without_formula(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "'")) else text


def _in_order(rle: str, record: dict[str, Any], order: Order) -> str:
    if order == "C":
        return rle
    return encode_rle(decode_rle(rle, (record["height"], record["width"]), order="C"), order="F")


def write_coco(path: Path, records: Iterable[dict[str, Any]], classes: Sequence[str]) -> None:
    """Write a COCO file: one annotation per object, or per image and class if the model does not segment objects."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in records:
        entry = {"id": len(images) + 1, "file_name": record["file"]}
        images.append({**entry, "height": record["height"], "width": record["width"]})
        for number, name in enumerate(classes):
            for annotation in _annotations(record, name):
                ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": number + 1}
                annotations.append(ids | annotation)
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _annotations(record: dict[str, Any], name: str) -> Iterable[dict[str, Any]]:
    if "objects" in record:
        return coco_objects(record, name)
    return [_annotation(record, name)] if record["classes"][name][0] else []


def _annotation(record: dict[str, Any], name: str) -> dict[str, Any]:
    rle, area, confidence, _ = record["classes"][name]
    shape = record["height"], record["width"]
    mask = decode_rle(rle, shape, order="C")
    return {
        "segmentation": {"size": list(shape), "counts": coco_counts(mask)},
        "bbox": list(cv2.boundingRect(mask.view(np.uint8))),
        "area": area,
        "score": confidence,
        "iscrowd": 1,  # COCO's readers accept lists of counts only for crowds
    }
