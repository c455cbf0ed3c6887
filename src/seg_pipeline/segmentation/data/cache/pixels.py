"""Samples of several shapes in flat arrays.

| array | holds |
|---|---|
| images | uint8, pixels of all images one after another, each (H, W, K) |
| truth | uint8, their truths likewise, each (C, H, W) or (H, W) |
| keys | (N,) what tells each sample: sha256 of pixels, size and masks |
| shapes | int32 (N, 2), height and width of each |
| points | int32 (N, POINTS), ``class_points``, -1 where there are fewer; only for ``resize_mode: crop`` |
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
from seg_pipeline.segmentation.data.memory import sample_depths
from seg_pipeline.segmentation.data.sample_decoding import POINTS, Decoder
from seg_pipeline.segmentation.manifest.table import class_names
from seg_pipeline.segmentation.settings.training import InputSettings, Task

VERSION = 1
"""Of the stored form; raise it when decoding gives other pixels."""
KEY_CHARS = 32

Allocate = Callable[[str, tuple[int, ...], str], np.ndarray]
"""An array by name, shape and dtype."""


@dataclass(frozen=True)
class Form:
    """What the stored samples depend on beside the images."""

    settings: InputSettings
    task: Task
    background: bool
    num_classes: int

    @property
    def depths(self) -> tuple[int, int]:
        """Bytes per pixel of image and mask."""
        return sample_depths(self.settings, self.task, self.num_classes)

    def describe(self) -> dict[str, Any]:
        """What matters of it, as plain values: neither windows nor offsets of frames, which come after."""
        given = self.settings
        of_training = given.normalisation == "training" and given.statistics
        return {
            "resize_mode": given.resize_mode,
            "size": given.scale if given.resize_mode == "crop" else given.size,
            "colour": given.channels == "rgb",
            "normalisation": given.normalisation,
            "window": given.statistics[0] if of_training and given.statistics else given.window,
            "truth": [self.task, self.background, self.num_classes],
            "version": [VERSION, cv2.__version__],  # which decodes and scales
        }


class PixelCache:
    """Stored samples by position; ``find`` gives the positions of a manifest's rows.

    Pickled, one on disk is its folder's name, and is opened again where it is used. While it exists, no other run
    removes that folder.

    Args:
        form: of the samples.
        source: the arrays, or the folder that holds them.
    """

    def __init__(self, form: Form, source: Mapping[str, np.ndarray] | Path) -> None:
        self.form, self.source = form, source
        held = disk.hold(source) if isinstance(source, Path) else None
        if held is not None:
            weakref.finalize(self, os.close, held)

    def __reduce__(self) -> tuple:
        return PixelCache, (self.form, self.source)

    def __len__(self) -> int:
        return len(self.arrays["keys"])

    @property
    def nbytes(self) -> int:
        """Of all its arrays, in memory or on disk."""
        return sum(array.nbytes for array in self.arrays.values())

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        if not isinstance(self.source, Path):
            return self.source
        # As plain arrays: np.memmap takes several times as long to slice.
        return {name: np.asarray(array) for name, array in disk.mapped(self.source).items()}

    @cached_property
    def _starts(self) -> np.ndarray:
        """Pixels before each sample."""
        pixels = self.arrays["shapes"].astype(np.int64).prod(axis=1)
        return np.cumsum(pixels) - pixels

    def find(self, manifest: pd.DataFrame) -> np.ndarray:
        """Position of each row's sample, int64.

        Raises:
            ValueError: the cache was made without an image of the manifest.
        """
        keys, wanted = self.arrays["keys"], sample_keys(manifest)
        order = np.argsort(keys)
        positions = order[np.searchsorted(keys, wanted, sorter=order).clip(max=len(keys) - 1)]
        if (missing := keys[positions] != wanted).any():
            raise ValueError(
                f"{manifest['image_id'].to_numpy()[missing][0]}: not in the pixel cache, as are {missing.sum()} of "
                f"{len(manifest)} images; open the cache with a manifest that holds them"
            )
        return positions

    def image(self, position: int) -> np.ndarray:
        """Uint8 (H, W, K), a view."""
        depth = self.form.depths[0]
        start, height, width = self._place(position)
        values = self.arrays["images"][start * depth : (start + height * width) * depth]
        return values.reshape(height, width, depth)

    def truth(self, position: int) -> np.ndarray:
        """As ``Decoder.truth``, a view."""
        depth = self.form.depths[1]
        start, height, width = self._place(position)
        values = self.arrays["truth"][start * depth : (start + height * width) * depth]
        return values.reshape((depth, height, width) if self.form.task == "multilabel" else (height, width))

    def points(self, position: int, _: np.ndarray) -> np.ndarray:
        """As ``class_points``."""
        points = self.arrays["points"][position]
        return points[points >= 0]

    def _place(self, position: int) -> tuple[int, int, int]:
        height, width = self.arrays["shapes"][position].tolist()
        return int(self._starts[position]), height, width

    def put(self, position: int, decoder: Decoder, row: int) -> None:
        """Fills a place of newly allocated arrays.

        Raises:
            ValueError: the image cannot be read or has changed.
        """
        truth = decoder.truth(row)
        self.image(position)[:] = decoder.image(row, checked=True)
        self.truth(position)[:] = truth
        if "points" in self.arrays:
            points = decoder.points(row, truth)
            self.arrays["points"][position] = -1
            self.arrays["points"][position, : len(points)] = points

    def frozen(self) -> PixelCache:
        """Itself, its arrays read-only from now on, as those on disk are."""
        for array in self.arrays.values():
            array.flags.writeable = False
        return self


def allocated(form: Form, keys: np.ndarray, shapes: np.ndarray, allocate: Allocate) -> dict[str, np.ndarray]:
    """Arrays for samples of these keys and shapes, their pixels to be filled in."""
    pixels = int(shapes.astype(np.int64).prod(axis=1).sum())
    arrays = {
        "images": allocate("images", (pixels * form.depths[0],), "u1"),
        "truth": allocate("truth", (pixels * form.depths[1],), "u1"),
        "keys": allocate("keys", keys.shape, keys.dtype.str),
        "shapes": allocate("shapes", shapes.shape, "i4"),
    }
    arrays["keys"][:], arrays["shapes"][:] = keys, shapes
    return arrays | (
        {"points": allocate("points", (len(keys), POINTS), "i4")} if form.settings.resize_mode == "crop" else {}
    )


def sample_keys(manifest: pd.DataFrame) -> np.ndarray:
    """What tells each row's sample: bytes (N,), the same for rows of equal pixels, size and masks."""
    columns = ["content_hash", "height", "width", "ignore", *(f"mask_{name}" for name in class_names(manifest))]
    rows = zip(*(manifest[name].array for name in columns), strict=True)
    keys = [hashlib.sha256("\n".join(map(str, row)).encode()).hexdigest()[:KEY_CHARS] for row in rows]
    return np.array(keys, dtype=f"S{KEY_CHARS}")


def cache_key(form: Form, keys: np.ndarray) -> str:
    """Of samples with these sorted keys."""
    described = json.dumps(form.describe(), sort_keys=True)
    return hashlib.sha256(described.encode() + keys.tobytes()).hexdigest()
