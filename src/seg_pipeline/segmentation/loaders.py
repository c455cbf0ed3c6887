"""DataLoaders whose order is a function of (seed, epoch)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from torch.utils.data import DataLoader, Sampler

from seg_pipeline.segmentation.augment import make_augmentation
from seg_pipeline.segmentation.datasets import ImageMaskDataset
from seg_pipeline.segmentation.recipe import Recipe


class EpochSampler(Sampler):
    """Yields (epoch, index) of all samples, shuffled anew in each epoch; ``epoch`` is set from outside."""

    def __init__(self, num_samples: int, *, seed: int) -> None:
        self.num_samples, self.seed, self.epoch = num_samples, seed, 0

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for index in torch.randperm(self.num_samples, generator=order).tolist():
            yield self.epoch, index


class Loaders(NamedTuple):
    train: DataLoader
    val: DataLoader
    order: EpochSampler
    """Of the train loader; its ``epoch`` decides order and augmentation."""


def make_loaders(
    manifest: pd.DataFrame, recipe: Recipe, *, device: torch.device, num_workers: int | None, cache: bool | None
) -> Loaders:
    """Train and validation loaders of images uint8 (B, 3, H, W) and masks uint8 (B, C, H, W).

    Args:
        manifest: with a split column; the test split is not touched.
        recipe: size, window, augmentation, batch size and seed.
        device: where batches will go; page-locked for CUDA.
        num_workers: processes that decode ahead; None: 0 on CPU, where training takes every core, else
            as many as there are cores, up to 8.
        cache: as for ``ImageMaskDataset``.

    Raises:
        ValueError: the train or the val split has no image.
    """
    dataset = partial(ImageMaskDataset, size=recipe.size, window=recipe.window, seed=recipe.seed, cache=cache)
    train = dataset(_rows(manifest, "train"), augmentation=make_augmentation(recipe.augmentation))
    workers = _default_workers(device) if num_workers is None else num_workers
    loader = partial(
        DataLoader,
        batch_size=recipe.batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    order = EpochSampler(len(train), seed=recipe.seed)
    # A last batch of one image would leave batch norm nothing to average over. The loaders' own generators
    # keep them from drawing on torch's global one, which dropout uses.
    several = len(train) > recipe.batch_size
    return Loaders(
        train=loader(train, sampler=order, drop_last=several, generator=torch.Generator()),
        val=loader(dataset(_rows(manifest, "val")), generator=torch.Generator()),
        order=order,
    )


def _rows(manifest: pd.DataFrame, split: str) -> pd.DataFrame:
    rows = manifest[manifest["split"] == split]
    if rows.empty:
        raise ValueError(
            f"the {split} split has no image; the manifest has {manifest['split'].value_counts().to_dict()}"
        )
    return rows


def _default_workers(device: torch.device) -> int:
    return min(8, os.cpu_count() or 1) if device.type == "cuda" else 0
