"""Statistics of pixels in a sample of images: intensities and class locations.

Each image is read once and only its counts are kept, so memory use does not grow with the number of images.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.manifest.table import read_masks

PERCENTILES = (5, 25, 50, 75, 95)
ALL = "all pixels"
MAP_SIDE = 48
"""Cells along the longer side of a location map."""


def measure_intensities(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Percentiles of the stored pixel values of manifest rows: overall, per class of ``names``, per group.

    Columns: kind ("all", "class" or "group"), name, images, pixels, p5, p25, p50, p75, p95. A colour pixel counts as
    the mean of its channels. Unlabelled pixels count for no class. Classes without pixels are omitted.
    """
    counts: dict[tuple[str, str], np.ndarray] = {}
    images: dict[tuple[str, str], int] = {}
    size = int(rows["intensity_max"].max()) + 1
    for row in rows.to_dict("records"):
        values = _grey(read_image(row["path"]))
        for key, selected in _values_by_key(row, values, names).items():
            if selected.size:
                counts[key] = counts.get(key, 0) + np.bincount(selected, minlength=size)
                images[key] = images.get(key, 0) + 1
    order = {name: index for index, name in enumerate(names)}
    keys = sorted(counts, key=lambda key: (key[0], order.get(key[1], 0), key[1]))
    return pd.DataFrame(
        [
            {"kind": kind, "name": name, "images": images[kind, name], **_percentiles(counts[kind, name])}
            for kind, name in keys
        ]
    )


def _grey(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 2 else image.mean(axis=2).astype(image.dtype)


def _values_by_key(row: dict, values: np.ndarray, names: Sequence[str]) -> dict[tuple[str, str], np.ndarray]:
    """The pixel values of each (kind, name)."""
    shown = [name for name in names if row[f"area_{name}"]]
    parts = {("all", ALL): values.ravel(), ("group", str(row["group"])): values.ravel()}
    masks = read_masks(row, shown) == 1 if shown else np.empty((0, *values.shape), dtype=bool)
    return parts | {("class", name): values[mask] for name, mask in zip(shown, masks, strict=True)}


def _percentiles(counts: np.ndarray) -> dict[str, int]:
    """Percentiles of the values 0, 1, 2, ..., given how often each occurs; each result is a value that occurs."""
    total = int(counts.sum())
    ranks = np.searchsorted(counts.cumsum(), np.multiply(PERCENTILES, total / 100), side="left")
    return {"pixels": total, **{f"p{share}": int(rank) for share, rank in zip(PERCENTILES, ranks, strict=True)}}


def location_maps(rows: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Percentage of images that show each class at each position: float32 (C, H, W).

    All images are resized to one small grid, whose aspect ratio is the median of the images.
    """
    ratio = float(np.median(rows["height"] / rows["width"]))
    scale = MAP_SIDE / max(ratio, 1)
    height, width = max(1, round(scale * ratio)), max(1, round(scale))
    total = np.zeros((len(names), height, width), dtype=np.float32)
    for row in rows.to_dict("records"):
        for index, name in enumerate(names):
            if row[f"area_{name}"]:
                mask = (read_masks(row, [name])[0] == 1).astype(np.float32)
                total[index] += cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    return 100 * total / len(rows)
