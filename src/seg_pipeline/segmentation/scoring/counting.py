"""What is counted of each image, and of each series as a volume."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from seg_pipeline.segmentation import metrics, surfaces
from seg_pipeline.segmentation.competition import Volume
from seg_pipeline.segmentation.manifest import read_masks
from seg_pipeline.segmentation.masks import IGNORE, decode_rle
from seg_pipeline.segmentation.metrics import ImageCounts, Tally
from seg_pipeline.segmentation.recipe import MeasureSettings


def count_images(
    truth: pd.DataFrame, predictions: pd.DataFrame, names: list[str], *, measures: MeasureSettings
) -> tuple[ImageCounts, Tensor]:
    """Counts of every image, in the order of the rows, and the confusion matrix of ``metrics.confusion``."""
    tally, confusion = Tally(ImageCounts), torch.zeros(len(names) + 1, len(names) + 1, dtype=torch.int64)
    unit = unit_of(truth)
    for row, predicted, masks in tqdm(_pairs(truth, predictions, names), total=len(truth), desc="scoring", **BAR):
        spacing = (1.0, row["spacing_y"], row["spacing_x"]) if unit == "mm" else (1.0, 1.0, 1.0)
        counts, pixels = count_image(predicted, masks, spacing=spacing, measures=measures)
        tally.update(counts)
        confusion += pixels
    return tally.gathered(), confusion


BAR = {"unit": "image", "disable": None}


def unit_of(rows: pd.DataFrame) -> str:
    """Of distances: "mm" where the spacing of every image is known, else "pixels"."""
    sides = ["spacing_y", "spacing_x"]
    return "mm" if set(sides) <= set(rows) and bool((rows[sides] > 0).all(axis=None)) else "pixels"


def _pairs(
    truth: pd.DataFrame, predictions: pd.DataFrame, names: list[str]
) -> Iterator[tuple[dict, np.ndarray, np.ndarray]]:
    """Row of the truth, predicted masks bool (C, H, W) and true ones uint8 (C, H, W) of each image."""
    for row, guess in zip(truth.to_dict("records"), predictions.to_dict("records"), strict=True):
        yield row, read_masks({**guess, "ignore": ""}, names).view(bool), read_masks(row, names)


def count_image(
    predicted: np.ndarray, masks: np.ndarray, *, spacing: surfaces.Spacing, measures: MeasureSettings
) -> tuple[ImageCounts, Tensor]:
    """Counts of one image, (1, C) and (1,), and its ``metrics.confusion``.

    Args:
        predicted: bool (C, H, W).
        masks: uint8 (C, H, W) of 0, 1 and ``IGNORE``, which neither mask has for the distances.
        spacing: distance between pixels.
        measures: tolerance in the unit of ``spacing``, boundary width as a share of the diagonal.
    """
    overlap, confusion = _count_pixels(predicted, masks)
    truth, shape = masks == 1, masks.shape[1:]
    if masks.max() == IGNORE:
        predicted = predicted & (masks != IGNORE)
    width = max(1, round(measures.boundary_width * math.hypot(*shape)))
    apart = [
        surfaces.compare(one[None], true[None], spacing=spacing, tolerance=measures.tolerance, boundary_width=width)
        for one, true in zip(predicted, truth, strict=True)
    ]
    diagonal = _float([surfaces.diagonal((1, *shape), spacing)])
    return ImageCounts(**overlap._asdict(), **_stacked(apart), diagonal=diagonal), confusion


def _count_pixels(predicted: np.ndarray, masks: np.ndarray) -> tuple[metrics.Counts, Tensor]:
    """``metrics.count`` and ``metrics.confusion`` of the pixels at which there is anything, and the rest in one sum."""
    flat = [array.reshape(len(array), -1) for array in (predicted, masks.view(bool))]
    there = np.flatnonzero(np.logical_or.reduce(np.logical_or(*flat), axis=0))
    pair = [torch.from_numpy(array.reshape(len(array), -1)[:, there])[None, :, None] for array in (predicted, masks)]
    counts, confusion = metrics.count(*pair), metrics.confusion(*pair)
    rest = predicted[0].size - len(there)
    confusion[-1, -1] += rest
    return counts._replace(right=counts.right + rest, known=counts.known + rest), confusion


def _stacked(of_classes: list) -> dict[str, Tensor]:
    """Named tuples of each class, as tensors (1, C)."""
    columns = zip(of_classes[0]._fields, zip(*of_classes, strict=True), strict=True)
    return {name: _float([values]) if name == "hd95" else torch.tensor([values]) for name, values in columns}


def _float(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class SeriesCounts(NamedTuple):
    """Of the series that are volumes."""

    rows: pd.DataFrame
    """series, group, num_missing: a row a series."""
    counts: ImageCounts
    """Of each series as one volume (N, C); without boundaries."""
    volumes: list[list[Volume]]
    """Of each series: one a class; last, all classes together."""


def count_volumes(
    truth: pd.DataFrame, predictions: pd.DataFrame, names: list[str], *, measures: MeasureSettings
) -> SeriesCounts | None:
    """Counts of each series whose images make a volume, see ``volume_of``; None where there is none.

    A frame that is missing between others shows nothing, in truth and prediction.
    """
    tally, volumes, about = Tally(ImageCounts), [], []
    guesses = predictions.set_index("image_id")
    for series, rows in tqdm(truth.groupby("series", sort=False), desc="scoring volumes", unit="series", disable=None):
        layout = layout_of(rows, measures.spacing_z)
        if layout is None:
            continue
        counts, found = _count_volume(rows, guesses.loc[rows["image_id"]], names, layout, measures)
        tally.update(counts)
        volumes.append(found)
        about.append({"series": series, "group": rows["group"].iloc[0], "num_missing": layout.shape[0] - len(rows)})
    return SeriesCounts(pd.DataFrame(about), tally.gathered(), volumes) if about else None


class Layout(NamedTuple):
    """How the images of a series lie in a volume."""

    shape: tuple[int, int, int]
    spacing: surfaces.Spacing
    places: list[int]
    """Of each image among the frames."""


def layout_of(rows: pd.DataFrame, spacing_z: float | None) -> Layout | None:
    """None where the images of a series are no volume.

    A volume has several frames of one size and known spacing, that across frames included, no frame twice, and not
    more frames missing than there are.
    """
    if "spacing_z" in rows and (rows["spacing_z"] > 0).all():
        spacing_z = float(rows["spacing_z"].iloc[0])
    alike = all(rows[name].nunique() == 1 for name in ("height", "width", "spacing_y", "spacing_x") if name in rows)
    frames = rows["frame"] - rows["frame"].min()
    depth = int(frames.max()) + 1
    if spacing_z is None or unit_of(rows) != "mm" or not alike or frames.duplicated().any():
        return None
    if len(rows) < 2 or depth > 2 * len(rows):
        return None
    first = rows.iloc[0]
    spacing = spacing_z, float(first["spacing_y"]), float(first["spacing_x"])
    return Layout((depth, int(first["height"]), int(first["width"])), spacing, frames.astype(int).tolist())


def _count_volume(
    rows: pd.DataFrame, guesses: pd.DataFrame, names: list[str], layout: Layout, measures: MeasureSettings
) -> tuple[ImageCounts, list[Volume]]:
    pairs = (_volumes_of(name, rows, guesses, layout) for name in names)
    overlap, apart, volumes = [], [], []
    merged = np.zeros((2, *layout.shape), dtype=bool)
    for predicted, truth in pairs:
        hits, found, there = (surfaces.pixels(mask) for mask in (predicted & truth, predicted, truth))
        overlap.append((hits, found - hits, there - hits))
        apart.append(surfaces.compare(predicted, truth, spacing=layout.spacing, tolerance=measures.tolerance))
        if measures.competition:
            volumes.append(Volume.of(predicted, truth))
            merged |= np.stack([predicted, truth])
    if measures.competition:
        volumes.append(Volume.of(*merged))
    true_pos, false_pos, false_neg = (torch.tensor([values]) for values in zip(*overlap, strict=True))
    nothing, diagonal = torch.zeros(1, dtype=torch.int64), _float([surfaces.diagonal(layout.shape, layout.spacing)])
    counts = ImageCounts(true_pos, false_pos, false_neg, nothing, nothing, **_stacked(apart), diagonal=diagonal)
    return counts, volumes


def _volumes_of(name: str, rows: pd.DataFrame, guesses: pd.DataFrame, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth of a class, bool (D, H, W); neither holds what is not known."""
    predicted, truth = (read_volume(table, f"mask_{name}", layout) for table in (guesses, rows))
    if rows["ignore"].any():
        known = ~read_volume(rows, "ignore", layout)
        return predicted & known, truth & known
    return predicted, truth


def read_volume(rows: pd.DataFrame, column: str, layout: Layout) -> np.ndarray:
    """Bool (D, H, W) of one column of run lengths."""
    volume = np.zeros(layout.shape, dtype=bool)
    for place, runs in zip(layout.places, rows[column], strict=True):
        if runs:
            volume[place] = decode_rle(runs, layout.shape[1:], order="C")
    return volume
