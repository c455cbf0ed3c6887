"""Whole images of a manifest for prediction, without their ground truth."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seg_pipeline.segmentation.data.datasets import by_source, read_frame
from seg_pipeline.segmentation.data.geometry import Box, cut_image, filled_shape
from seg_pipeline.segmentation.data.sample_decoding import Decoder, frame_rows
from seg_pipeline.segmentation.settings.training import InputSettings, Task


class WholeImages:
    """The images of manifest rows, equal to those of ``make_dataset``; safe to read from several threads.

    ``images[index]`` is uint8 (H, W, K), padded as ``fitted_shapes`` says.
    """

    def __init__(self, rows: pd.DataFrame, settings: InputSettings, *, task: Task, background: bool) -> None:
        self.settings = settings
        self._places: list[tuple[Decoder, int, list[int]]] = []
        for source, part in by_source(rows):
            own = settings.of_source(source)
            kind = Decoder if isinstance(own.channels, str) else _RecentDecoder
            decoder = kind(part, own, task=task, background=background)
            self._places += [(decoder, at, frames) for at, frames in enumerate(frame_rows(part, own).tolist())]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        decoder, own, frames = self._places[index]
        shape = decoder.shape(own)
        box = Box(0, 0, *filled_shape(shape, self.settings))
        planes = [cut_image(read_frame(decoder, at, shape), box) for at in frames]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)


class _RecentDecoder(Decoder):
    """Keeps the last images, because each is a frame of its neighbours too."""

    @functools.cached_property
    def _recent(self) -> Callable[[int], np.ndarray]:
        return functools.lru_cache(RECENT)(super().image)

    def image(self, index: int, *, checked: bool = False) -> np.ndarray:
        assert not checked
        return self._recent(index)


RECENT = 16


def as_batch(images: Sequence[np.ndarray], *, pinned: bool = False) -> Tensor:
    """Images (H, W, K) as one batch (B, K, H, W), channels-last in memory, padded with black to the largest."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    batch = torch.zeros(len(images), height, width, images[0].shape[2], dtype=torch.uint8, pin_memory=pinned)
    filled = batch.numpy()
    for place, image in zip(filled, images, strict=True):
        place[: image.shape[0], : image.shape[1]] = image
    return batch.permute(0, 3, 1, 2)
