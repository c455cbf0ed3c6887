"""DataLoaders whose batches are a function of (seed, epoch, step)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from seg_pipeline.segmentation.augment import Augmentation, albumentations_augmentation, make_augmentation
from seg_pipeline.segmentation.cache import open_cache
from seg_pipeline.segmentation.datasets import Draw, VisionImageMaskDataset, fitted_shapes
from seg_pipeline.segmentation.manifest import class_names
from seg_pipeline.segmentation.masks import IGNORE
from seg_pipeline.segmentation.memory import CacheMode
from seg_pipeline.segmentation.recipe import ComputeSettings, InputSettings, Recipe

BALANCED_SHARE = 0.7
"""Of the draws, for ``balance: classes``; the others show images as they come, so that all are seen."""


class EpochSampler(Sampler[list[Draw]]):
    """The batches of an epoch, as one process or one of several sees them: lists of ``Draw``.

    An epoch has as many draws as there are images, less what is left over for a last batch: one of a single
    image would leave batch norm nothing to average over. Fewer images than a batch are one batch.

    Args:
        rows: of the manifest, as the data set has them.
        batch_size: of all processes together; each takes its ``rank``'s part of every batch.
        balance: none; foreground, as ``image_factors``; classes: ``BALANCED_SHARE`` of the draws, as ``draw_classes``.
        background: the first channel of the truth is no class.

    Raises:
        ValueError: the batch does not divide by the number of processes, or there are fewer images than those.
    """

    epoch: int = 0
    """Decides order and augmentation; set from outside."""
    start: int = 0
    """Step to begin at, to go on within an epoch; set from outside."""

    def __init__(
        self,
        rows: pd.DataFrame,
        *,
        batch_size: int,
        seed: int,
        balance: Literal["none", "foreground", "classes"] = "none",
        background: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size % world:
            raise ValueError(
                f"`batch_size: {batch_size}` does not divide by {world} processes, which take equal parts of a batch; "
                f"set {batch_size - batch_size % world or world} or another multiple"
            )
        if len(rows) < world:
            raise ValueError(f"{len(rows)} train images are too few for {world} processes; lower `devices`")
        self.image_ids = rows["image_id"].tolist()
        self.shown = rows[[f"area_{name}" for name in class_names(rows)]].to_numpy() > 0
        self.factors, self.balance, self.background = image_factors(self.shown, balance), balance, background
        self.batch_size = min(batch_size, len(rows) - len(rows) % world)
        self.seed, self.rank, self.world = seed, rank, world

    def __len__(self) -> int:
        """Steps of a whole epoch, wherever it begins."""
        return len(self.image_ids) // self.batch_size

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, order = self.epoch, self._order(self.epoch)
        for step in range(self.start, len(self)):
            yield [Draw(epoch, index, repeat, label) for index, repeat, label in order[self._part(step)].tolist()]

    def ids(self, epoch: int, step: int) -> list[str]:
        """The image_ids of this process's part of a batch."""
        return [self.image_ids[index] for index, *_ in self._order(epoch)[self._part(step)].tolist()]

    def _part(self, step: int) -> slice:
        size = self.batch_size // self.world
        begin = step * self.batch_size + self.rank * size
        return slice(begin, begin + size)

    def _order(self, epoch: int) -> np.ndarray:
        """Index, repeat and label of each draw of the epoch: (N, 3)."""
        rng = np.random.default_rng([self.seed, epoch])
        drawn = draw_in_proportion(self.factors, rng)
        labels = np.full(len(drawn), -1)
        if self.balance == "classes":
            chosen = rng.random(len(drawn)) < BALANCED_SHARE
            drawn[chosen], labels[chosen] = draw_classes(self.shown, int(chosen.sum()), rng)
            labels[chosen] += self.background
        return np.column_stack([drawn, pd.Series(drawn).groupby(drawn).cumcount(), labels])


def image_factors(shown: np.ndarray, balance: str) -> np.ndarray:
    """How often each image is drawn, in proportion to the others.

    Args:
        shown: bool (N, C), whether an image shows a class.
        balance: foreground: images that show a class take half of the draws; else all alike.
    """
    if balance != "foreground":
        return np.ones(len(shown))
    foreground = shown.any(axis=1)
    return 1 / np.where(foreground, foreground.sum(), (~foreground).sum())


def draw_classes(shown: np.ndarray, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images and the classes that they are drawn for: each class that there is as often, give or take one.

    Args:
        shown: bool (N, C), whether an image shows a class.
    """
    there = np.flatnonzero(shown.any(axis=0))
    if not len(there):
        return rng.integers(len(shown), size=number), np.full(number, -1)
    classes = rng.permutation(np.resize(rng.permutation(there), number))
    images = np.empty(number, dtype=np.int64)
    for one in there:
        at = np.flatnonzero(classes == one)
        images[at] = np.resize(rng.permutation(np.flatnonzero(shown[:, one])), len(at))  # few repeats
    return images, classes


def draw_in_proportion(factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many indices as there are factors, each as often as its factor's share asks, rounded up or down.

    Systematic sampling: images are laid end to end, each as long as its share, and those under the marks of
    an evenly spaced comb are drawn. Equal factors lie together, so that their total is rounded only once.
    """
    places = rng.permutation(len(factors))
    places = places[np.argsort(factors[places], kind="stable")]
    ends = np.cumsum(factors[places]) * (len(factors) / factors.sum())
    ends[-1] = len(factors)
    comb = float(rng.random(dtype=np.float32))  # of so few digits that sums with whole numbers are exact
    counts = np.diff(np.floor(ends + comb), prepend=0).astype(int)
    return rng.permutation(np.repeat(places, counts))


class Loader(DataLoader):
    """A DataLoader that says what to do about a worker that hangs or dies."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except RuntimeError as error:
            if "timed out" in str(error):
                raise RuntimeError(
                    f"a worker of the data loader gave no batch within {self.timeout:g} s. Where images lie on a slow "
                    "disk raise `training.compute.timeout`; else `training.compute.num_workers: 0` shows what it "
                    "waits for"
                ) from error
            if "exited unexpectedly" in str(error) or "killed by signal" in str(error):
                raise RuntimeError(
                    f"a worker of the data loader died ({error}), as a rule because memory ran out: lower "
                    "`training.compute.num_workers` or `training.compute.prefetch`, or let a container have more "
                    "shared memory (/dev/shm)"
                ) from error
            raise


class Loaders(NamedTuple):
    train: Loader
    val: Loader
    order: EpochSampler
    """Of the train loader."""


def make_loaders(
    manifest: pd.DataFrame,
    recipe: Recipe,
    compute: ComputeSettings,
    *,
    device: torch.device,
    cache_folder: Path | None = None,
    rank: int = 0,
    world: int = 1,
) -> Loaders:
    """Train and validation loaders of images uint8 (B, K, H, W) and truth uint8 (B, C, H, W) or (B, H, W).

    Validation shows whole images: those of several sizes in a batch are filled up to its largest, black and
    ``IGNORE``. Each process has its share of the batches, which may be none.

    Args:
        manifest: with a split column; the test split is not touched.
        recipe: its batch size is a number.
        device: where batches will go; page-locked for CUDA.
        cache_folder: for decoded images on disk.
        rank: this process among ``world``.

    Raises:
        ValueError: the train or the val split has no image; what ``EpochSampler`` and the data sets raise.
    """
    train, val = _rows(manifest, "train"), _rows(manifest, "val")
    cv2.setNumThreads(0)  # as in workers: beside torch's threads, which keep the cores busy, its own only wait
    sampling, batch_size = recipe.sampling, recipe.sampling.batch_size
    assert not isinstance(batch_size, str), "`planning.settle` turns `auto` into a number"
    order = EpochSampler(
        train,
        batch_size=batch_size,
        seed=recipe.seed,
        balance=sampling.balance,
        background=recipe.background,
        rank=rank,
        world=world,
    )
    if sampling.albumentations is not None:
        augmentation: Augmentation | None = albumentations_augmentation(sampling.albumentations)
    else:
        augmentation = make_augmentation(sampling.augmentation, rgb=recipe.input.channels == "rgb")
    drawn, whole = _datasets(train, val, recipe, augmentation, mode=compute.cache, folder=cache_folder)
    loader = partial(_loader, compute=compute, device=device, world=world)
    at_once = whole_images(val, recipe.input, batch_size=order.batch_size)
    batches = [list(range(begin, min(begin + at_once, len(val)))) for begin in range(0, len(val), at_once)]
    return Loaders(
        train=loader(drawn, batch_sampler=order),
        val=loader(whole, batch_sampler=batches[rank::world]),
        order=order,
    )


def _datasets(
    train: pd.DataFrame,
    val: pd.DataFrame,
    recipe: Recipe,
    augmentation: Augmentation | None,
    *,
    mode: CacheMode,
    folder: Path | None,
) -> tuple[VisionImageMaskDataset, VisionImageMaskDataset]:
    """Of both splits, which share one cache: a cross-validation's folds then find it too."""
    cache = open_cache(
        pd.concat([train, val]),
        recipe.input,
        task=recipe.task,
        background=recipe.background,
        mode=mode,
        folder=folder,
        num_workers=os.cpu_count() or 1,
    )
    dataset = partial(
        VisionImageMaskDataset,
        settings=recipe.input,
        task=recipe.task,
        background=recipe.background,
        seed=recipe.seed,
        cache=cache,
    )
    return dataset(train, augmentation=augmentation), dataset(val)


def _loader(
    dataset: Dataset, *, compute: ComputeSettings, device: torch.device, world: int = 1, **batches: Any
) -> Loader:
    workers = _default_workers(device, world) if compute.num_workers is None else compute.num_workers
    if workers:
        batches |= {
            "prefetch_factor": compute.prefetch,
            "persistent_workers": True,
            "timeout": compute.timeout,
            "worker_init_fn": _start_worker,
        }
    # The loaders' own generators keep them from drawing on torch's global one, which dropout uses.
    return Loader(
        dataset,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        collate_fn=collate,
        generator=torch.Generator(),
        **batches,
    )


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # torch does the same for its own; workers share the cores already


def _rows(manifest: pd.DataFrame, split: str) -> pd.DataFrame:
    rows = manifest[manifest["split"] == split]
    if rows.empty:
        raise ValueError(
            f"the {split} split has no image; the manifest has {manifest['split'].value_counts().to_dict()}"
        )
    return rows


def _default_workers(device: torch.device, world: int) -> int:
    return min(8, (os.cpu_count() or 1) // world) if device.type == "cuda" else 0


def whole_images(rows: pd.DataFrame, settings: InputSettings, *, batch_size: int) -> int:
    """How many whole images, at least one, have no more pixels together than a training batch."""
    shapes = rows[["height", "width"]].drop_duplicates().itertuples(index=False)
    filled = [fitted_shapes(int(height), int(width), settings)[1] for height, width in shapes]
    most = max(height * width for height, width in filled)
    return max(1, min(batch_size, batch_size * settings.size[0] * settings.size[1] // most))


def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A batch of images and truth, each filled up below and to the right to the largest height and width.

    Channels of the images are last in memory, as they are in the samples and as the network wants them.
    """
    height, width = (max(image.shape[axis] for image, _ in samples) for axis in (-2, -1))
    images = default_collate([_filled(image, height, width, 0).permute(1, 2, 0) for image, _ in samples])
    return images.permute(0, 3, 1, 2), default_collate([_filled(truth, height, width, IGNORE) for _, truth in samples])


def _filled(tensor: Tensor, height: int, width: int, value: int) -> Tensor:
    below, right = height - tensor.shape[-2], width - tensor.shape[-1]
    plain = tensor.as_subclass(Tensor)
    return functional.pad(plain, (0, right, 0, below), value=value) if below or right else plain
