"""Torch data sets over the manifest.

A sample is an image uint8 (K, H, W) and its ground truth, uint8 (C, H, W) for multilabel and (H, W) for multiclass
(``Decoder.truth``). ``dataset[index]`` returns the whole image without augmentation. ``dataset[Draw(...)]`` returns a
training sample: augmented and, for ``resize_mode: crop``, a random window. Both data sets return the same pixels.
With ``augment="batch"`` a training sample is not augmented yet; its third part is the parameters, float32 (P,), for
``Preset.apply_batch``.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

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
    NUM_RANDOM_VALUES,
    Box,
    Shape,
    crop_image,
    crop_truth,
    draw_window,
    input_shapes,
    padded_shape,
    resize_image,
    resize_logits,
    resize_truth,
)
from seg_pipeline.segmentation.data.randomness import uniforms
from seg_pipeline.segmentation.data.sample_decoding import Decoder, frame_rows
from seg_pipeline.segmentation.settings.training import InputSettings, Task

__all__ = [
    "ConcatDataset",
    "Draw",
    "ImageMaskDataset",
    "VisionImageMaskDataset",
    "input_shapes",
    "make_dataset",
    "to_native",
]


class Draw(NamedTuple):
    """Key of a training sample. Together with the data set's seed it determines everything random in the sample."""

    epoch: int
    index: int  # type: ignore[assignment]  # a tuple's own `index` is not needed
    repeat: int = 0
    """How many times the epoch has already drawn this image."""
    label: int = -1
    """Channel of the truth that the window must show; -1: any."""


class Source(Protocol):
    """Stored samples by position: a ``Decoder`` or a ``PixelCache``."""

    def image(self, position: int, /) -> np.ndarray: ...

    def truth(self, position: int, /) -> np.ndarray: ...

    def points(self, position: int, truth: np.ndarray, /) -> np.ndarray: ...


Augment = Literal["sample", "batch"]
"""Where samples are augmented: one by one in the data set, or later as a batch with ``Preset.apply_batch``."""

Key = int | Draw
Sample = tuple[Tensor, ...]
"""Image and truth, and the parameters of an augmentation that is applied to the batch later."""


class ImageMaskDataset(data.Dataset):
    """A plain torch data set over a manifest.

    Args:
        manifest: one row per image.
        settings: size, channels and normalisation of the network's input.
        task: multilabel or multiclass.
        background: multiclass pixels may belong to no class.
        objects: the truth also has the gaps between each class's objects.
        augmentation: augmentation of ``Draw`` keys; None: none.
        augment: whether samples are augmented here, or as a batch.
        seed: seed of windows and augmentation.
        cache: decoded samples of at least these images, in place of the manifest. None: decode on every access.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        settings: InputSettings,
        *,
        task: Task,
        background: bool,
        objects: bool = False,
        augmentation: Augmentation | None = None,
        augment: Augment = "sample",
        seed: int = 0,
        cache: PixelCache | None = None,
    ) -> None:
        self.settings, self.augmentation, self.augment, self.seed = settings, augmentation, augment, seed
        self.source: Source = cache or Decoder(manifest, settings, task=task, background=background, objects=objects)
        self.positions = cache.find(manifest) if cache else np.arange(len(manifest))
        rows = frame_rows(manifest, settings)
        self.frames = np.where(rows < 0, -1, self.positions[rows])
        """Positions of the images that form the channels of each sample; -1: black."""

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: Key) -> Any:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample]:
        """The samples of a batch, which torch's loader requests; random numbers are drawn for all at once."""
        draws = [key for key in keys if isinstance(key, Draw)]
        if len(draws) < len(keys):
            return [self._whole_image(key) if not isinstance(key, Draw) else self[key] for key in keys]
        random_values = uniforms(
            self.seed, np.array([(*draw, WINDOW_KEY) for draw in draws]), NUM_RANDOM_VALUES
        ).tolist()
        return [
            self._training_sample(*numbers)
            for numbers in zip(draws, random_values, self.parameters(draws), strict=True)
        ]

    def parameters(self, draws: Sequence[Draw]) -> np.ndarray:
        """Parameters of the augmentation of these samples: float32 (B, P); P is 0 without an augmentation."""
        if self.augmentation is None:
            return np.empty((len(draws), 0), dtype=np.float32)
        return self.augmentation.draw(self.seed, np.array(draws, dtype=np.int64), self.settings.size)

    def _whole_image(self, index: int) -> Sample:
        return read_whole(self.source, int(self.positions[index]), self.frames[index], self.settings)

    def _training_sample(self, draw: Draw, random_values: list[float], parameters: np.ndarray) -> Sample:
        position, frames = int(self.positions[draw.index]), self.frames[draw.index]
        sample = read_window(self.source, position, frames, self.settings, random_values, draw.label)
        if self.augment == "batch":
            return *sample, torch.from_numpy(parameters)
        return self.augmentation.apply(*sample, parameters) if self.augmentation else sample


WINDOW_KEY = 0
"""Last field of the key of a window's random numbers, so that they differ from those of the augmentation."""


class VisionImageMaskDataset(ImageMaskDataset, VisionDataset):
    """``ImageMaskDataset`` as a torchvision ``VisionDataset``, whose samples are tv_tensors Image and Mask."""

    def __init__(self, manifest: pd.DataFrame, settings: InputSettings, **options: Any) -> None:
        VisionDataset.__init__(self)
        ImageMaskDataset.__init__(self, manifest, settings, **options)

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample]:
        return [
            (tv_tensors.Image(image), tv_tensors.Mask(truth), *parameters)
            for image, truth, *parameters in super().__getitems__(keys)
        ]


class ConcatDataset(data.ConcatDataset):
    """``torch.utils.data.ConcatDataset`` that accepts ``Draw`` keys too. Give each data set its own seed."""

    def __getitem__(self, key: Key) -> Any:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample]:
        samples: dict[int, Sample] = {}
        for part, positions, part_keys in self._by_part(keys):
            samples |= zip(positions, part.__getitems__(part_keys), strict=True)
        return [samples[position] for position in range(len(keys))]

    def parameters(self, draws: Sequence[Draw]) -> np.ndarray:
        """Parameters of the augmentation of these samples, each with the seed of its data set: float32 (B, P)."""
        parts = [(positions, part.parameters(part_draws)) for part, positions, part_draws in self._by_part(draws)]
        parameters = np.empty((len(draws), parts[0][1].shape[1]), dtype=np.float32)
        for positions, values in parts:
            parameters[positions] = values
        return parameters

    def _by_part(self, keys: Sequence[Key]) -> Iterator[tuple[Any, list[int], list[Key]]]:
        """Each data set with some of the samples, their positions in ``keys``, and their keys within the data set."""
        indices = np.array([key.index if isinstance(key, Draw) else key for key in keys])
        if (invalid := (indices < -len(self)) | (indices >= len(self))).any():
            raise IndexError(f"index {indices[invalid][0]} is out of range; the data sets have {len(self)} samples")
        indices %= len(self)
        part_of_key = np.searchsorted(self.cumulative_sizes, indices, side="right")
        for number in np.unique(part_of_key).tolist():
            first = self.cumulative_sizes[number - 1] if number else 0
            positions = np.flatnonzero(part_of_key == number).tolist()
            part_indices = (indices[positions] - first).tolist()
            pairs = ((keys[position], index) for position, index in zip(positions, part_indices, strict=True))
            yield (
                self.datasets[number],
                positions,
                [key._replace(index=index) if isinstance(key, Draw) else index for key, index in pairs],
            )


def make_dataset(
    rows: pd.DataFrame,
    settings: InputSettings,
    *,
    seed: int = 0,
    caches: Mapping[str | None, PixelCache | None] = MappingProxyType({}),
    **options: Any,
) -> VisionImageMaskDataset | ConcatDataset:
    """The samples of manifest rows, in order: one data set per source, each with its own normalisation and seed.

    Args:
        rows: one row per image; rows of one source must be adjacent if channels are frames of a series.
        caches: decoded samples by source; the source is None if the manifest is of a single data set.
        options: further arguments of ``ImageMaskDataset``.
    """
    parts = [
        VisionImageMaskDataset(
            part, settings.of_source(source), seed=seed + number, cache=caches.get(source), **options
        )
        for number, (source, part) in enumerate(by_source(rows))
    ]
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def by_source(rows: pd.DataFrame) -> Iterator[tuple[str | None, pd.DataFrame]]:
    """Split rows into runs of the same source, in order."""
    if "source" not in rows or rows.empty:
        yield None, rows
        return
    starts = rows["source"] != rows["source"].shift()
    for _, part in rows.groupby(starts.cumsum().to_numpy(), sort=False):
        yield part["source"].iloc[0], part


def read_whole(source: Source, position: int, frames: np.ndarray, settings: InputSettings) -> tuple[Tensor, Tensor]:
    """Read a whole image, padded as ``input_shapes`` says: with black, and ``IGNORE`` in the truth.

    Args:
        source: the stored samples.
        position: position of the image.
        frames: positions of the images that form its channels; -1: black.
        settings: settings of the network's input.
    """
    truth = source.truth(position)
    box = Box(0, 0, *padded_shape(truth.shape[-2:], settings))
    return _read(source, truth, frames, box, box[2:])


def read_window(
    source: Source,
    position: int,
    frames: np.ndarray,
    settings: InputSettings,
    random_values: Sequence[float],
    label: int = -1,
) -> tuple[Tensor, Tensor]:
    """Read a training sample: for ``resize_mode: crop`` a random window of ``settings.size``, else the whole image.

    Args:
        random_values: ``NUM_RANDOM_VALUES`` random numbers in [0, 1).
        label: channel of the truth that the window must show; -1: any, with the probability of
            ``settings.foreground``.
    """
    if settings.resize_mode != "crop":
        return read_whole(source, position, frames, settings)
    truth = source.truth(position)
    foreground = settings.foreground if label < 0 else 1.0
    points = source.points(position, truth) if foreground else np.empty(0, dtype=np.int32)
    if label >= 0:
        points = points[_is_channel(truth, points, label)]
    box = draw_window(truth.shape[-2:], settings, points, random_values, foreground=foreground)
    return _read(source, truth, frames, box, settings.size)


def _is_channel(truth: np.ndarray, points: np.ndarray, label: int) -> np.ndarray:
    """Which points belong to a channel of the truth."""
    return truth[label].ravel()[points] == 1 if truth.ndim == 3 else truth.ravel()[points] == label


def _read(source: Source, truth: np.ndarray, frames: np.ndarray, box: Box, shape: Shape) -> tuple[Tensor, Tensor]:
    """Cut ``box`` out of image and truth, then resize to ``shape``; the cost depends on the box only."""
    images = (read_frame(source, position, truth.shape[-2:]) for position in frames.tolist())
    planes = [resize_image(crop_image(image, box), shape) for image in images]
    image = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
    return (
        torch.from_numpy(image).permute(2, 0, 1),  # a view: channels-last in memory
        torch.from_numpy(resize_truth(crop_truth(truth, box), shape)),
    )


def read_frame(source: Source, position: int, shape: Shape) -> np.ndarray:
    """An image (H, W, K), resized to the shape of its sample."""
    if position < 0:
        return np.broadcast_to(np.uint8(0), (*shape, 1))
    return resize_image(source.image(position), shape)


def to_native(logits: Tensor, height: int, width: int, settings: InputSettings) -> Tensor:
    """``geometry.resize_logits`` of a tensor (K, h, w), always on the CPU so that the device does not matter."""
    return torch.from_numpy(resize_logits(logits.float().cpu().numpy(), height, width, settings))
