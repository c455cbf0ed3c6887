"""Whole images of a manifest for prediction, without their ground truth."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seg_pipeline.segmentation.data.datasets import by_source, read_frame
from seg_pipeline.segmentation.data.geometry import Box, crop_image, padded_shape
from seg_pipeline.segmentation.data.sample_decoding import Decoder, frame_rows
from seg_pipeline.segmentation.settings.training import InputSettings, Task


class WholeImages:
    """The images of manifest rows, equal to those of ``make_dataset``; several threads may read them.

    ``images[index]`` is uint8 (H, W, K), padded as ``input_shapes`` says.
    """

    def __init__(self, rows: pd.DataFrame, settings: InputSettings, *, task: Task, background: bool) -> None:
        self.settings = settings
        self._places: list[tuple[Decoder, int, list[int]]] = []
        for source, part in by_source(rows):
            settings_of_source = settings.of_source(source)
            decoder_class = Decoder if isinstance(settings_of_source.channels, str) else _RecentDecoder
            decoder = decoder_class(part, settings_of_source, task=task, background=background)
            self._places += [
                (decoder, position, frames)
                for position, frames in enumerate(frame_rows(part, settings_of_source).tolist())
            ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        decoder, position, frames = self._places[index]
        shape = decoder.shape(position)
        box = Box(0, 0, *padded_shape(shape, self.settings))
        planes = [crop_image(read_frame(decoder, frame, shape), box) for frame in frames]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)


class _RecentDecoder(Decoder):
    """Keeps recent images, because each is also a frame of its neighbours."""

    @functools.cached_property
    def _recent(self) -> Callable[[int], np.ndarray]:
        return functools.lru_cache(RECENT)(super().image)

    def image(self, index: int, *, verify: bool = False) -> np.ndarray:
        assert not verify
        return self._recent(index)


RECENT = 16


def as_batch(images: Sequence[np.ndarray], *, pinned: bool = False) -> Tensor:
    """Images (H, W, K) as one batch (B, K, H, W), channels-last in memory, padded with black to the largest."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    batch = torch.zeros(len(images), height, width, images[0].shape[2], dtype=torch.uint8, pin_memory=pinned)
    pixels = batch.numpy()
    for target, image in zip(pixels, images, strict=True):
        target[: image.shape[0], : image.shape[1]] = image
    return batch.permute(0, 3, 1, 2)
