"""Torch data sets over the manifest."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from seg_pipeline.segmentation.augment import Augmentation
from seg_pipeline.segmentation.images import read_image, to_rgb8
from seg_pipeline.segmentation.manifest import class_names, read_masks
from seg_pipeline.segmentation.memory import is_cached


class ImageMaskDataset(Dataset):
    """Images uint8 (3, H, W) and masks uint8 (C, H, W) of 0, 1 and ``IGNORE``, resized to one size.

    ``dataset[index]`` is the sample as it is in epoch 0. ``dataset[epoch, index]`` is its augmented form in
    that epoch: a function of (seed, epoch, index) only, whatever the number of workers.

    Args:
        manifest: one row an image.
        size: height and width of the samples.
        window: percentiles of each image that become black and white; None: as stored.
        augmentation: takes and gives image and masks; None: samples as they are.
        seed: of the augmentation.
        cache: keep decoded samples in memory; None: where all take less than 1 GiB.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        *,
        size: tuple[int, int],
        window: tuple[float, float] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache: bool | None = None,
    ) -> None:
        self.rows = manifest.to_dict("records")
        self.names = class_names(manifest)
        self.size, self.window, self.augmentation, self.seed = size, window, augmentation, seed
        keep = is_cached(len(self.rows), size=size, num_classes=len(self.names), cache=cache)
        self._kept: dict[int, tuple[Tensor, Tensor]] | None = {} if keep else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image, masks = self._read(index)
        if self.augmentation is None:
            return image, masks
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_mixed(self.seed, epoch, index))
            return self.augmentation(image, masks)

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        sample = self._decode(self.rows[index])
        if self._kept is not None:
            self._kept[index] = sample
        return sample

    def _decode(self, row: dict) -> tuple[Tensor, Tensor]:
        image = to_rgb8(read_image(row["path"]), window=self.window)
        if image.shape[:2] != (row["height"], row["width"]):
            raise ValueError(
                f"{row['path']}: image is {image.shape[0]} x {image.shape[1]} (height x width), the manifest says "
                f"{row['height']} x {row['width']}: the file has changed, run data_processing again"
            )
        masks = read_masks(row, self.names)
        return to_tensor(resize_image(image, self.size)), torch.from_numpy(resize_masks(masks, self.size))


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def to_tensor(image: np.ndarray) -> Tensor:
    """Uint8 (3, H, W) of (H, W, 3)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Uint8 (H, W, 3) at ``size``: averaged where it shrinks, linear where it grows."""
    shrinks = image.shape[0] * image.shape[1] > size[0] * size[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_masks(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Uint8 (C, H, W) at ``size``; each pixel takes the value of the nearest."""
    if masks.shape[1:] == size:
        return masks
    return np.stack([cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks])
