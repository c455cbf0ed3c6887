"""Samples of different shapes in flat arrays.

| array | contents |
|---|---|
| images | uint8, pixels of all images one after another, each (H, W, K) |
| truth | uint8, ground truth of all images one after another, each (C, H, W) or (H, W) |
| keys | bytes (N,), key of each sample: sha256 of pixels, size and masks |
| shapes | int32 (N, 2), height and width of each sample |
| points | int32 (N, POINTS), ``class_points``, padded with -1; only for ``resize_mode: crop`` |
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from seg_pipeline.segmentation.data.cache import disk
from seg_pipeline.segmentation.data.memory import bytes_per_pixel
from seg_pipeline.segmentation.data.sample_decoding import POINTS, Decoder
from seg_pipeline.segmentation.manifest.table import OBJECT_MAP, class_names
from seg_pipeline.segmentation.settings.training import InputSettings, Task

VERSION = 1
"""Version of the stored samples; increase it when decoding changes the pixels."""
KEY_CHARS = 32

Allocate = Callable[[str, tuple[int, ...], str], np.ndarray]
"""Allocates an array, given its name, shape and dtype."""


@dataclass(frozen=True)
class SampleFormat:
    """Everything except the images that determines the stored samples."""

    settings: InputSettings
    task: Task
    background: bool
    num_classes: int
    objects: bool = False

    @property
    def depths(self) -> tuple[int, int]:
        """Bytes per pixel of an image and of its ground truth."""
        return bytes_per_pixel(self.settings, self.task, self.num_classes * (1 + self.objects))

    def describe(self) -> dict[str, Any]:
        """Plain values for the cache key, without the crop size and frame offsets, which apply after the cache."""
        settings = self.settings
        of_training = settings.normalisation == "training" and settings.statistics
        return {
            "resize_mode": settings.resize_mode,
            "size": settings.scale if settings.resize_mode == "crop" else settings.size,
            "colour": settings.channels == "rgb",
            "normalisation": settings.normalisation,
            "window": settings.statistics[0] if of_training and settings.statistics else settings.window,
            "truth": [self.task, self.background, self.num_classes, *["objects"] * self.objects],
            "version": [VERSION, cv2.__version__],  # OpenCV decodes and scales
        }


class PixelCache:
    """Stored samples by position; ``find`` returns the positions of a manifest's rows.

    A cache on disk is pickled as its path and reopened by the process that unpickles it. While the object exists, no
    other run removes its folder.

    Args:
        sample_format: settings that determine the samples.
        source: the arrays, or the folder that holds them.
    """

    def __init__(self, sample_format: SampleFormat, source: Mapping[str, np.ndarray] | Path) -> None:
        self.sample_format, self.source = sample_format, source
        lock = disk.lock_shared(source) if isinstance(source, Path) else None
        if lock is not None:
            weakref.finalize(self, os.close, lock)

    def __reduce__(self) -> tuple:
        return PixelCache, (self.sample_format, self.source)

    def __len__(self) -> int:
        return len(self.arrays["keys"])

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes, in memory or on disk."""
        return sum(array.nbytes for array in self.arrays.values())

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        if not isinstance(self.source, Path):
            return self.source
        # plain arrays, because slicing np.memmap takes several times as long
        return {name: np.asarray(array) for name, array in disk.open_arrays(self.source).items()}

    @cached_property
    def _starts(self) -> np.ndarray:
        """Number of pixels before each sample."""
        pixels = self.arrays["shapes"].astype(np.int64).prod(axis=1)
        return np.cumsum(pixels) - pixels

    def find(self, manifest: pd.DataFrame) -> np.ndarray:
        """Return the position of each row's sample, int64 (N,).

        Raises:
            ValueError: the cache lacks an image of the manifest.
        """
        keys, row_keys = self.arrays["keys"], sample_keys(manifest)
        order = np.argsort(keys)
        positions = order[np.searchsorted(keys, row_keys, sorter=order).clip(max=len(keys) - 1)]
        if (missing := keys[positions] != row_keys).any():
            raise ValueError(
                f"{manifest['image_id'].to_numpy()[missing][0]}: not in the pixel cache, which lacks {missing.sum()} "
                f"of {len(manifest)} images; open the cache with a manifest that contains them"
            )
        return positions

    def image(self, position: int) -> np.ndarray:
        """Return a view of an image, uint8 (H, W, K)."""
        depth = self.sample_format.depths[0]
        start, height, width = self._place(position)
        values = self.arrays["images"][start * depth : (start + height * width) * depth]
        return values.reshape(height, width, depth)

    def truth(self, position: int) -> np.ndarray:
        """Return a view of a ground truth, uint8 (C, H, W) or (H, W); see ``Decoder.truth``."""
        depth = self.sample_format.depths[1]
        start, height, width = self._place(position)
        values = self.arrays["truth"][start * depth : (start + height * width) * depth]
        return values.reshape((depth, height, width) if self.sample_format.task == "multilabel" else (height, width))

    def points(self, position: int, _: np.ndarray) -> np.ndarray:
        """Return the points of a sample; see ``class_points``."""
        points = self.arrays["points"][position]
        return points[points >= 0]

    def _place(self, position: int) -> tuple[int, int, int]:
        height, width = self.arrays["shapes"][position].tolist()
        return int(self._starts[position]), height, width

    def put(self, position: int, decoder: Decoder, row: int) -> None:
        """Decode a row and write it to its position in newly allocated arrays.

        Raises:
            ValueError: the image cannot be read or has changed.
        """
        truth = decoder.truth(row)
        self.image(position)[:] = decoder.image(row, verify=True)
        self.truth(position)[:] = truth
        if "points" in self.arrays:
            points = decoder.points(row, truth)
            self.arrays["points"][position] = -1
            self.arrays["points"][position, : len(points)] = points

    def make_read_only(self) -> PixelCache:
        """Make the arrays read-only, like those on disk, and return self."""
        for array in self.arrays.values():
            array.flags.writeable = False
        return self


def allocate_arrays(
    sample_format: SampleFormat, keys: np.ndarray, shapes: np.ndarray, allocate: Allocate
) -> dict[str, np.ndarray]:
    """Allocate the arrays for samples with these keys and shapes; ``put`` fills in the pixels."""
    pixels = int(shapes.astype(np.int64).prod(axis=1).sum())
    arrays = {
        "images": allocate("images", (pixels * sample_format.depths[0],), "u1"),
        "truth": allocate("truth", (pixels * sample_format.depths[1],), "u1"),
        "keys": allocate("keys", keys.shape, keys.dtype.str),
        "shapes": allocate("shapes", shapes.shape, "i4"),
    }
    arrays["keys"][:], arrays["shapes"][:] = keys, shapes
    return arrays | (
        {"points": allocate("points", (len(keys), POINTS), "i4")}
        if sample_format.settings.resize_mode == "crop"
        else {}
    )


def sample_keys(manifest: pd.DataFrame) -> np.ndarray:
    """Compute each row's key, bytes (N,): equal for rows with equal pixels, size and masks."""
    columns = ["content_hash", "height", "width", "ignore", *(f"mask_{name}" for name in class_names(manifest))]
    columns += [name for name in map(str, manifest) if name.startswith(OBJECT_MAP)]
    rows = zip(*(manifest[name].array for name in columns), strict=True)
    keys = [hashlib.sha256("\n".join(map(str, row)).encode()).hexdigest()[:KEY_CHARS] for row in rows]
    return np.array(keys, dtype=f"S{KEY_CHARS}")


def cache_key(sample_format: SampleFormat, keys: np.ndarray) -> str:
    """Compute the key of a cache from its form and its samples' sorted keys."""
    description = json.dumps(sample_format.describe(), sort_keys=True)
    return hashlib.sha256(description.encode() + keys.tobytes()).hexdigest()
