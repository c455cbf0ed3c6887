"""Output files of a model that segments objects: maps of object numbers, and the table of all objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.decoding import read_spacing
from seg_pipeline.segmentation.images.encoding import write_png
from seg_pipeline.segmentation.images.tiff import ExtraTag, write_mask
from seg_pipeline.segmentation.inference.class_folders import class_folders
from seg_pipeline.segmentation.objects.label_maps import decode_labels, encode_labels
from seg_pipeline.segmentation.objects.table import Measured, measure_objects
from seg_pipeline.segmentation.storage.atomic import replacing

COLUMNS = ["image_id", "file", "class", *Measured._fields[:2], "area_mm2", *Measured._fields[2:]]
MAX_IN_PNG = 2**16 - 1


def record_objects(row: dict[str, Any], labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict:
    """The journal's record of an image's objects: per class, the map as text and the measurements.

    Args:
        row: the image's row, with spacing_y and spacing_x in mm if known; otherwise they are read from a TIFF.
        labels: int32 (C, H, W).
        probabilities: float32 (C, H, W).
    """
    spacing: list[Any] = [row.get(name) for name in ("spacing_y", "spacing_x")]
    if any(pd.isna(side) for side in spacing):
        file_spacing = read_spacing(row["path"], turned=False)
        spacing = [file_spacing.get(name) for name in ("spacing_y", "spacing_x")]
    per_class = {
        name: [
            encode_labels(class_labels),
            [[*_rounded(measured)] for measured in measure_objects(class_labels, probability)],
        ]
        for name, class_labels, probability in zip(classes, labels, probabilities, strict=True)
    }
    return {"mm2": None if None in spacing else float(spacing[0]) * float(spacing[1]), "classes": per_class}


def _rounded(measured: Measured) -> Iterator[float]:
    """Round to six digits, the precision of a float32."""
    return (value if isinstance(value, int) else float(f"{value:.6g}") for value in measured)


def map_files(record: dict[str, Any], classes: Sequence[str]) -> list[str]:
    """Paths in the output folder of an image's object maps, one per class; TIFF if georeferenced or 32-bit."""
    max_objects = max((len(measures) for _, measures in record["objects"]["classes"].values()), default=0)
    suffix = "tif" if record.get("georeferenced", False) or max_objects > MAX_IN_PNG else "png"
    return [f"objects/{folder}/{record['image_id']}.{suffix}" for folder in class_folders(classes)]


def write_maps(
    folder: Path, record: dict[str, Any], labels: np.ndarray, classes: Sequence[str], tags: Sequence[ExtraTag]
) -> None:
    """Write label maps, int32 (C, H, W): 0 is background, other values are the objects' numbers in objects.csv."""
    for file, label_map in zip(map_files(record, classes), labels, strict=True):
        values = label_map.astype(np.uint16 if label_map.max(initial=0) <= MAX_IN_PNG else np.uint32)
        with replacing(folder / file) as temporary:
            if file.endswith(".tif"):
                write_mask(temporary, values, tags)
            else:
                write_png(temporary, values)


def object_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row per object, with ``COLUMNS``: areas, box and centre in pixels, and mm\u00b2 if the spacing is known."""
    rows = [
        (record["image_id"], record["file"], name, number, area, mm2 and area * mm2, *rest)
        for record in records
        for mm2 in [record["objects"]["mm2"]]
        for name, (_, measures) in record["objects"]["classes"].items()
        for number, area, *rest in measures
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"area_mm2": "float64"})


def coco_objects(record: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """A COCO annotation per object of a class, without its ids; run lengths are compressed, as COCO readers expect."""
    from pycocotools import mask as coco

    text, measures = record["objects"]["classes"][name]
    labels = decode_labels(text, (record["height"], record["width"]))
    for measured in (Measured(*values) for values in measures):
        rle = coco.encode(np.asfortranarray((labels == measured.object).astype(np.uint8)))
        yield {
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            "bbox": [measured.left, measured.top, measured.width, measured.height],
            "area": measured.area,
            "score": measured.confidence,
            "iscrowd": 0,
        }
