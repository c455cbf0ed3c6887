"""Each image opened once: its masks checked and made canonical, its size and contents measured."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm

from seg_pipeline.segmentation.images import read_image, read_values
from seg_pipeline.segmentation.masks import (
    Order,
    binary_mask,
    decode_rle,
    encode_rle,
    indexed_masks,
    is_colour,
    pack_colours,
    pixel_value,
)
from seg_pipeline.segmentation.metadata import IGNORED, INDEXED, Form
from seg_pipeline.segmentation.quality import Finding, findings_table


@dataclass(frozen=True)
class MaskReader:
    """How a data set's masks are read.

    Attributes:
        class_values: class name -> its value in the metadata or in an indexed mask.
        form: what the mask lists hold: run lengths ("rle") or paths.
        exclusive: a pixel has at most one class; where several claim it, its truth is not known.
        ignore_unlabelled: the truth of a pixel without a class is not known (else: background).
        instances: each mask of a list is an object, also where it touches another of its class.
        class_values, background_values, ignore_values of an indexed mask: whole numbers, or colours "#rrggbb".
    """

    class_values: dict[str, str]
    form: Form
    rle_order: Order = "C"
    rle_first: int = 1
    exclusive: bool = False
    ignore_unlabelled: bool = False
    background_values: list[int | str] = field(default_factory=list)
    ignore_values: list[int | str] = field(default_factory=list)
    instances: bool = False

    def read(self, row: Mapping, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, int, list[int]]:
        """Bool masks (C, H, W), ignored pixels (H, W), how many pixels several classes claimed, and objects by
        class.

        Raises:
            ValueError: a mask cannot be read or does not fit an image of ``shape``.
        """
        if self.form == INDEXED:
            masks, ignore = self._read_indexed(row, shape)
            given = [0] * len(masks)
        else:
            parts = [self._read_class(row[f"mask_{name}"], shape) for name in self.class_values]
            masks, given = np.stack([mask for mask, _ in parts]), [number for _, number in parts]
            ignore, _ = self._read_class(row.get(f"mask_{IGNORED}", []), shape)
        claims = masks.sum(axis=0) if self.exclusive else np.zeros(shape, dtype=np.int64)
        if self.ignore_unlabelled:
            ignore |= ~masks.any(axis=0)
        ignore |= claims > 1
        masks &= ~ignore
        objects = given if self.instances else [cv2.connectedComponents(mask.astype(np.uint8))[0] - 1 for mask in masks]
        return masks, ignore, int((claims > 1).sum()), objects

    def _read_indexed(self, row: Mapping, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        (path,) = row[f"mask_{INDEXED}"]
        colours = any(is_colour(value) for value in self.class_values.values())
        image = _read_mask_image(path, shape, colours=colours)
        try:
            return indexed_masks(
                image,
                [pixel_value(value) for value in self.class_values.values()],
                background_values=[pixel_value(value) for value in self.background_values],
                ignore_values=[pixel_value(value) for value in self.ignore_values],
                colours=colours,
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def _read_class(self, sources: list[str], shape: tuple[int, int]) -> tuple[np.ndarray, int]:
        """The masks as one, and how many of them are not empty."""
        mask, number = np.zeros(shape, dtype=bool), 0
        for source in sources:
            part = self._read_one(source, shape)
            mask |= part
            number += int(part.any())
        return mask, number

    def _read_one(self, source: str, shape: tuple[int, int]) -> np.ndarray:
        if self.form == "rle":
            return decode_rle(source, shape, order=self.rle_order, first=self.rle_first)
        try:
            return binary_mask(_read_mask_image(source, shape))
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None


def _read_mask_image(path: str, shape: tuple[int, int], *, colours: bool = False) -> np.ndarray:
    """Values (H, W); with ``colours`` 65536 red + 256 green + blue."""
    values = read_image(path) if colours else read_values(path)
    if colours and values.dtype != np.uint8:
        raise ValueError(f"{path}: mask has 16 bits a channel, but its classes are declared as colours of 8 bits")
    values = pack_colours(values) if colours else values
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise ValueError(
                f"{path}: mask is a colour picture, expected grey values or a palette; where colours are classes, "
                "give each class its colour as `value`, such as [128, 0, 64]"
            )
        values = values[..., 0]
    if values.shape != shape:
        raise ValueError(
            f"{path}: mask is {values.shape[0]} x {values.shape[1]} (height x width), its image {shape[0]} x {shape[1]}"
        )
    return values


def measure_images(
    table: pd.DataFrame, reader: MaskReader, *, num_workers: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Manifest of the images that can be read, without splits, and findings for the rest.

    Images go through joblib: `joblib.parallel_config(backend=...)` moves the work to another pool.

    Raises:
        ValueError: not one image can be used.
    """
    tasks = (joblib.delayed(_measure_image)(row, reader) for row in table.to_dict("records"))
    parallel = joblib.Parallel(n_jobs=num_workers, return_as="generator")
    results = list(tqdm(parallel(tasks), total=len(table), desc="reading images", unit="image", disable=None))
    findings = findings_table(finding for _, found in results for finding in found)
    manifest = pd.DataFrame([row for row, _ in results if row is not None])
    if manifest.empty:
        raise ValueError(
            f"none of the {len(table)} images can be used; the first finding: {findings.iloc[0]['reason']}"
        )
    return manifest, findings


def _measure_image(row: dict, reader: MaskReader) -> tuple[dict | None, list[Finding]]:
    about = {"image_id": row["image_id"], "file": row["file"]}
    try:
        image = read_image(row["path"])
    except ValueError as error:
        return None, [Finding("unreadable_image", str(error), "dropped", **about)]
    shape = image.shape[:2]
    try:
        masks, ignore, claimed, objects = reader.read(row, shape)
    except ValueError as error:
        return None, [Finding("bad_mask", str(error), "dropped", **about, row=row["row"])]
    found = [Finding(rule, reason, action, **about) for rule, reason, action in _doubts(row, image, claimed)]
    kept = {name: value for name, value in row.items() if not name.startswith("mask_") and name not in ("row", "width")}
    return {**kept, **_features(image, masks, ignore, dict(zip(reader.class_values, objects, strict=True)))}, found


def _doubts(row: dict, image: np.ndarray, claimed: int) -> list[tuple]:
    """Rule, reason and action for all that is odd about an image that can be used all the same."""
    height, width = image.shape[:2]
    named = (row.get("height", height), row.get("width", width))
    doubts = []
    if named != (height, width):
        reason = f"name says {named[0]} x {named[1]} (height x width), header {height} x {width}; the header is used"
        doubts.append(("size_differs_from_name", reason, "repaired"))
    if image.min() == image.max():
        doubts.append(("blank_image", f"every pixel is {image.min()}", "flagged"))
    if claimed:
        reason = f"{claimed} pixels are claimed by several classes; they count nowhere"
        doubts.append(("overlapping_classes", reason, "repaired"))
    return doubts


def _features(image: np.ndarray, masks: np.ndarray, ignore: np.ndarray, objects: dict[str, int]) -> dict:
    height, width = image.shape[:2]
    features = {
        "height": height,
        "width": width,
        "channels": 1 if image.ndim == 2 else image.shape[2],
        "dtype": str(image.dtype),
        "intensity_min": int(image.min()),
        "intensity_max": int(image.max()),
        "content_hash": hashlib.sha256(repr((image.shape, str(image.dtype))).encode() + image.tobytes()).hexdigest(),
    }
    for name, mask in zip(objects, masks, strict=True):
        features[f"mask_{name}"] = encode_rle(mask, order="C")
    features["ignore"] = encode_rle(ignore, order="C")
    for name, mask in zip(objects, masks, strict=True):
        features[f"area_{name}"] = int(mask.sum())
        features[f"objects_{name}"] = objects[name]
    return features
