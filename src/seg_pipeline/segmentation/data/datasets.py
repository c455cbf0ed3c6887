"""Torch data sets over the manifest.

A sample is an image uint8 (K, H, W) and its ground truth, uint8 (C, H, W) for multilabel and (H, W) for multiclass
(``Decoder.truth``). ``dataset[index]`` returns the whole image without augmentation. ``dataset[Draw(...)]`` returns a
training sample: augmented and, for ``resize_mode: crop``, a random window. Both data sets return the same pixels.
"""

from __future__ import annotations

import bisect
import hashlib
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils import data
from torchvision import tv_tensors
from torchvision.datasets import VisionDataset

from seg_pipeline.segmentation.data.augmentation import Augmentation
from seg_pipeline.segmentation.data.cache import PixelCache
from seg_pipeline.segmentation.data.geometry import (
    CHANCES,
    Box,
    Shape,
    cut_image,
    cut_truth,
    draw_window,
    filled_shape,
    fitted_shapes,
    resize_image,
    resize_logits,
    resize_truth,
)
from seg_pipeline.segmentation.data.sample_decoding import Decoder, frame_rows
from seg_pipeline.segmentation.settings.training import InputSettings, Task

__all__ = [
    "ConcatDataset",
    "Draw",
    "ImageMaskDataset",
    "VisionImageMaskDataset",
    "fitted_shapes",
    "make_dataset",
    "to_native",
]


class Draw(NamedTuple):
    """Key of a training sample. Together with the data set's seed it determines everything random in the sample."""

    epoch: int
    index: int  # type: ignore[assignment]  # a tuple's own `index` is not needed
    repeat: int = 0
    """How often the epoch has already drawn the image."""
    label: int = -1
    """Channel of the truth that the window must show; -1: any."""


class Source(Protocol):
    """Stored samples by position: a ``Decoder`` or a ``PixelCache``."""

    def image(self, position: int, /) -> np.ndarray: ...

    def truth(self, position: int, /) -> np.ndarray: ...

    def points(self, position: int, truth: np.ndarray, /) -> np.ndarray: ...


class ImageMaskDataset(data.Dataset):
    """The plain torch data set, which decodes samples from their files on every access.

    Args:
        manifest: one row per image.
        settings: size, channels and normalisation of the network's input.
        task: multilabel or multiclass.
        background: multiclass pixels may belong to no class.
        augmentation: applied to the image and truth of ``Draw`` keys; None: no augmentation.
        seed: seed of windows and augmentation.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        settings: InputSettings,
        *,
        task: Task,
        background: bool,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.settings, self.augmentation, self.seed = settings, augmentation, seed
        self.decoder = Decoder(manifest, settings, task=task, background=background)
        self.frames = frame_rows(manifest, settings)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, Tensor]:
        if not isinstance(key, Draw):
            return read_whole(self.decoder, key, self.frames[key], self.settings)
        with seeded(self.seed, *key):
            sample = read_window(self.decoder, key.index, self.frames[key.index], self.settings, key.label)
            return self.augmentation(*sample) if self.augmentation else sample


class VisionImageMaskDataset(VisionDataset):
    """``ImageMaskDataset`` as a torchvision ``VisionDataset``: tv_tensors Image and Mask, joint ``transforms``.

    Args:
        cache: decoded samples of at least these images; the manifest is then not kept. None: decode on every
            access.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        settings: InputSettings,
        *,
        task: Task,
        background: bool,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache: PixelCache | None = None,
    ) -> None:
        super().__init__(transforms=augmentation)
        self.settings, self.seed = settings, seed
        self.source: Source = cache or Decoder(manifest, settings, task=task, background=background)
        self.positions = cache.find(manifest) if cache else np.arange(len(manifest))
        rows = frame_rows(manifest, settings)
        self.frames = np.where(rows < 0, -1, self.positions[rows])

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, Tensor]:
        index = key.index if isinstance(key, Draw) else key
        place = int(self.positions[index]), self.frames[index]
        if not isinstance(key, Draw):
            return _wrapped(*read_whole(self.source, *place, self.settings))
        with seeded(self.seed, *key):
            sample = _wrapped(*read_window(self.source, *place, self.settings, key.label))
            return self.transforms(*sample) if self.transforms else sample


def _wrapped(image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    return tv_tensors.Image(image), tv_tensors.Mask(truth)


class ConcatDataset(data.ConcatDataset):
    """``torch.utils.data.ConcatDataset`` that accepts ``Draw`` keys too. Give each data set its own seed."""

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, Tensor]:
        if not isinstance(key, Draw):
            return super().__getitem__(key)
        which = bisect.bisect_right(self.cumulative_sizes, key.index)
        before = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][key._replace(index=key.index - before)]


def make_dataset(
    rows: pd.DataFrame,
    settings: InputSettings,
    *,
    task: Task,
    background: bool,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    caches: Mapping[str | None, PixelCache | None] = MappingProxyType({}),
) -> VisionImageMaskDataset | ConcatDataset:
    """The samples of manifest rows, in their order: a data set per source, each with its own normalisation and seed.

    Args:
        rows: one row per image; rows of one source stand together where channels are frames of a series.
        caches: decoded samples by source; None is the source of a manifest that is of one data set.
    """
    parts = [
        VisionImageMaskDataset(
            part,
            settings.of_source(source),
            task=task,
            background=background,
            augmentation=augmentation,
            seed=seed + number,
            cache=caches.get(source),
        )
        for number, (source, part) in enumerate(_parts(rows))
    ]
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def _parts(rows: pd.DataFrame) -> Iterator[tuple[str | None, pd.DataFrame]]:
    """Runs of rows of one source, in their order."""
    if "source" not in rows or rows.empty:
        yield None, rows
        return
    starts = rows["source"] != rows["source"].shift()
    for _, part in rows.groupby(starts.cumsum().to_numpy(), sort=False):
        yield part["source"].iloc[0], part


def read_whole(source: Source, own: int, frames: np.ndarray, settings: InputSettings) -> tuple[Tensor, Tensor]:
    """Read a whole image, padded as ``fitted_shapes`` says: with black, and ``IGNORE`` in the truth.

    Args:
        source: the stored samples.
        own: position of the image.
        frames: positions of the images that form its channels; -1: black.
        settings: settings of the network's input.
    """
    truth = source.truth(own)
    box = Box(0, 0, *filled_shape(truth.shape[-2:], settings))
    return _read(source, truth, frames, box, box[2:])


def read_window(
    source: Source, own: int, frames: np.ndarray, settings: InputSettings, label: int = -1
) -> tuple[Tensor, Tensor]:
    """Read a training sample: for ``resize_mode: crop`` a random window of ``settings.size``, else the whole image.

    Randomness comes from torch's global generator.

    Args:
        label: channel of the truth that the window must show; -1: any, with the probability of
            ``settings.foreground``.
    """
    if settings.resize_mode != "crop":
        return read_whole(source, own, frames, settings)
    truth = source.truth(own)
    foreground = settings.foreground if label < 0 else 1.0
    points = source.points(own, truth) if foreground else np.empty(0, dtype=np.int32)
    if label >= 0:
        points = points[_shows(truth, points, label)]
    box = draw_window(truth.shape[-2:], settings, points, torch.rand(CHANCES).tolist(), foreground=foreground)
    return _read(source, truth, frames, box, settings.size)


def _shows(truth: np.ndarray, points: np.ndarray, label: int) -> np.ndarray:
    """Which points belong to a channel of the truth."""
    return truth[label].ravel()[points] == 1 if truth.ndim == 3 else truth.ravel()[points] == label


def _read(source: Source, truth: np.ndarray, frames: np.ndarray, box: Box, shape: Shape) -> tuple[Tensor, Tensor]:
    """Cut ``box`` out of image and truth, then resize to ``shape``; the cost depends on the box only."""
    stored = (_frame(source, at, truth.shape[-2:]) for at in frames.tolist())
    planes = [resize_image(cut_image(image, box), shape) for image in stored]
    image = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    return (
        torch.from_numpy(image).permute(2, 0, 1),  # a view: channels-last in memory
        torch.from_numpy(resize_truth(cut_truth(truth, box), shape)),
    )


def _frame(source: Source, position: int, shape: Shape) -> np.ndarray:
    """An image (H, W, K), resized to the shape of its sample."""
    if position < 0:
        return np.broadcast_to(np.uint8(0), (*shape, 1))
    return resize_image(source.image(position), shape)


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed torch's global CPU generator with these numbers, and restore it afterwards."""
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    # torch.random.fork_rng and manual_seed handle all devices and take 70 times as long.
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(int.from_bytes(digest, "little") >> 1)
    try:
        yield
    finally:
        generator.set_state(before)


def to_native(logits: Tensor, height: int, width: int, settings: InputSettings) -> Tensor:
    """``geometry.resize_logits`` of a tensor (K, h, w), always on the CPU so that the device does not matter."""
    return torch.from_numpy(resize_logits(logits.float().cpu().numpy(), height, width, settings))
