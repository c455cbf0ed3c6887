"""Torch data sets over the manifest.

A sample is an image uint8 (K, H, W) and its truth, uint8 (C, H, W) for multilabel and (H, W) for multiclass
(``Decoder.truth``). ``dataset[index]`` is the whole image as it is; ``dataset[Draw(...)]`` is its form for
training: augmented, and for ``resize_mode: crop`` a random window of it. Both data sets here give equal pixels.
"""

from __future__ import annotations

import bisect
import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
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

__all__ = ["ConcatDataset", "Draw", "ImageMaskDataset", "VisionImageMaskDataset", "fitted_shapes", "to_native"]


class Draw(NamedTuple):
    """Key of a training sample; with the data set's seed it decides all that is random in it."""

    epoch: int
    index: int  # type: ignore[assignment]  # a tuple's own `index` is not needed
    repeat: int = 0
    """How often the epoch has drawn the image before."""
    label: int = -1
    """Channel of the truth that a window of it is to show; -1: any."""


class Source(Protocol):
    """Where stored samples come from, by position: a ``Decoder`` or a ``PixelCache``."""

    def image(self, position: int, /) -> np.ndarray: ...

    def truth(self, position: int, /) -> np.ndarray: ...

    def points(self, position: int, truth: np.ndarray, /) -> np.ndarray: ...


class ImageMaskDataset(data.Dataset):
    """The reference: samples decoded from their files each time.

    Args:
        manifest: one row an image.
        settings: from a stored image to the network's input.
        task: multilabel or multiclass.
        background: multiclass pixels may belong to no class.
        augmentation: takes and gives image and truth; None: samples as they are.
        seed: of windows and augmentation.
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
    """As ``ImageMaskDataset``, of torchvision's kind: tv_tensors Image and Mask, with ``transforms`` for both.

    Args:
        cache: holds the stored samples of (at least) these images; the manifest is not kept then. None: they are
            decoded each time.
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
    """Several data sets as one, which takes ``Draw`` keys too; give each its own seed."""

    def __getitem__(self, key: int | Draw) -> tuple[Tensor, Tensor]:
        if not isinstance(key, Draw):
            return super().__getitem__(key)
        which = bisect.bisect_right(self.cumulative_sizes, key.index)
        before = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][key._replace(index=key.index - before)]


def read_whole(source: Source, own: int, frames: np.ndarray, settings: InputSettings) -> tuple[Tensor, Tensor]:
    """A whole image, filled up as ``fitted_shapes`` says: black, and ``IGNORE`` in the truth.

    Args:
        source: of the stored samples.
        own: position of the image.
        frames: positions of the images that make its channels; -1: black.
        settings: of the network's input.
    """
    truth = source.truth(own)
    box = Box(0, 0, *filled_shape(truth.shape[-2:], settings))
    return _read(source, truth, frames, box, box[2:])


def read_window(
    source: Source, own: int, frames: np.ndarray, settings: InputSettings, label: int = -1
) -> tuple[Tensor, Tensor]:
    """As ``read_whole``, but for ``resize_mode: crop`` a random window of ``settings.size``, by torch's
    global generator.

    Args:
        label: channel of the truth that the window is to show; -1: any, by ``settings.foreground``.
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
    """Which points are of a channel of the truth."""
    return truth[label].ravel()[points] == 1 if truth.ndim == 3 else truth.ravel()[points] == label


def _read(source: Source, truth: np.ndarray, frames: np.ndarray, box: Box, shape: Shape) -> tuple[Tensor, Tensor]:
    """``box`` cut out of image and truth, then brought to ``shape``: the cost is that of the box."""
    stored = (_frame(source, at, truth.shape[-2:]) for at in frames.tolist())
    planes = [resize_image(cut_image(image, box), shape) for image in stored]
    image = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    return (
        torch.from_numpy(image).permute(2, 0, 1),  # a view: channels stay last in memory
        torch.from_numpy(resize_truth(cut_truth(truth, box), shape)),
    )


def _frame(source: Source, position: int, shape: Shape) -> np.ndarray:
    """An image (H, W, K) at the shape of the sample that it is a part of."""
    if position < 0:
        return np.broadcast_to(np.uint8(0), (*shape, 1))
    return resize_image(source.image(position), shape)


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Torch's global generator (on the CPU) is seeded with these numbers, and restored afterwards."""
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    # torch.random.fork_rng and manual_seed look after all devices, and take 70 times as long.
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(int.from_bytes(digest, "little") >> 1)
    try:
        yield
    finally:
        generator.set_state(before)


def to_native(logits: Tensor, height: int, width: int, settings: InputSettings) -> Tensor:
    """As ``geometry.resize_logits``, of a tensor (K, h, w); on the CPU, wherever the logits were computed."""
    return torch.from_numpy(resize_logits(logits.float().cpu().numpy(), height, width, settings))
