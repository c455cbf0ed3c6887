"""Choose and order the images of an epoch, as a function of (seed, epoch) only, so that a run resumes exactly."""

from collections.abc import Iterator
from itertools import count
from typing import Literal

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

from seg_pipeline.segmentation.data.datasets import Draw
from seg_pipeline.segmentation.manifest.table import class_names

BALANCED_SHARE = 0.7
"""Fraction of draws that balance classes for ``oversampling: classes``; the rest are uniform, so all images appear."""


def check_shares(batch_size: int, num_images: int, world: int) -> None:
    """Raise ValueError unless a batch of train images can be divided equally among ``world`` processes."""
    if batch_size % world:
        raise ValueError(
            f"`batch_size: {batch_size}` cannot be divided equally among {world} processes; "
            f"set {batch_size - batch_size % world or world} or another multiple"
        )
    if num_images < world:
        raise ValueError(f"{num_images} train images are too few for {world} processes; lower `devices`")


class EpochSampler(Sampler[list[Draw]]):
    """The batches of an epoch for this process, as lists of ``Draw``.

    With these keys instead of plain indices, a worker reproduces a sample from (seed, epoch, index, repeat) alone, so
    the number of workers, prefetching and resuming cannot change it. An epoch has as many draws as images, rounded
    down to whole batches, because batch norm cannot average over a last batch of one image. Fewer images than
    ``batch_size`` form one batch.

    Args:
        rows: manifest rows in the order of the data set.
        batch_size: global batch size, over all processes.
        oversampling: none; foreground (see ``image_factors``); or classes: ``BALANCED_SHARE`` of the draws come from
            ``draw_classes``.
        background: whether channel 0 of the ground truth is the background.
        rank, world: number of this process, and number of processes; each takes an equal part of every batch.

    Raises:
        ValueError: the batch size is not a multiple of the number of processes, or there are fewer images than
            processes.
    """

    epoch: int = 0
    """Determines order and augmentation; set by the caller."""
    start: int = 0
    """First step; set by the caller to resume within an epoch."""

    def __init__(
        self,
        rows: pd.DataFrame,
        *,
        batch_size: int,
        seed: int,
        oversampling: Literal["none", "foreground", "classes"] = "none",
        background: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        check_shares(batch_size, len(rows), world)
        self.image_ids = rows["image_id"].tolist()
        self.has_class = rows[[f"area_{name}" for name in class_names(rows)]].to_numpy() > 0
        self.factors, self.oversampling, self.background = (
            image_factors(self.has_class, oversampling),
            oversampling,
            background,
        )
        self.batch_size = min(batch_size, len(rows) - len(rows) % world)
        self.seed, self.rank, self.world = seed, rank, world

    def __len__(self) -> int:
        """Number of steps in a whole epoch, independent of ``start``."""
        return len(self.image_ids) // self.batch_size

    def __iter__(self) -> Iterator[list[Draw]]:
        yield from self._batches(self.epoch, self.start)

    def endless_batches(self) -> Iterator[list[Draw]]:
        """The batches of this epoch and of all that follow, without end."""
        first = self.epoch
        yield from self._batches(first, self.start)
        for epoch in count(first + 1):
            yield from self._batches(epoch, 0)

    def _batches(self, epoch: int, start: int) -> Iterator[list[Draw]]:
        order = self._order(epoch)
        for step in range(start, len(self)):
            yield [Draw(epoch, index, repeat, label) for index, repeat, label in order[self._part(step)].tolist()]

    def ids(self, epoch: int, step: int) -> list[str]:
        """Image ids of this process's part of a batch."""
        return [self.image_ids[index] for index, *_ in self._order(epoch)[self._part(step)].tolist()]

    def _part(self, step: int) -> slice:
        size = self.batch_size // self.world
        start = step * self.batch_size + self.rank * size
        return slice(start, start + size)

    def _order(self, epoch: int) -> np.ndarray:
        """Index, repeat and label of each draw of an epoch: int64 (N, 3)."""
        rng = np.random.default_rng([self.seed, epoch])
        indices = draw_in_proportion(self.factors, rng)
        labels = np.full(len(indices), -1)
        if self.oversampling == "classes":
            balanced = rng.random(len(indices)) < BALANCED_SHARE
            indices[balanced], labels[balanced] = draw_classes(self.has_class, int(balanced.sum()), rng)
            labels[balanced] += self.background
        return np.column_stack([indices, pd.Series(indices).groupby(indices).cumcount(), labels])


def image_factors(has_class: np.ndarray, oversampling: str) -> np.ndarray:
    """Relative frequency of each image: float64 (N,).

    Args:
        has_class: whether each image shows each class: bool (N, C).
        oversampling: "foreground" gives half of the draws to images with any class; otherwise all images are equal.
    """
    if oversampling != "foreground":
        return np.ones(len(has_class))
    foreground = has_class.any(axis=1)
    return 1 / np.where(foreground, foreground.sum(), (~foreground).sum())


def draw_classes(has_class: np.ndarray, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw images so that all classes in ``has_class`` are drawn equally often (give or take one).

    Args:
        has_class: whether each image shows each class: bool (N, C).

    Returns:
        Indices of the images and of the classes they are drawn for, both int64 (number,); the class is -1 if no image
        shows any.
    """
    present = np.flatnonzero(has_class.any(axis=0))
    if not len(present):
        return rng.integers(len(has_class), size=number), np.full(number, -1)
    classes = rng.permutation(np.resize(rng.permutation(present), number))
    images = np.empty(number, dtype=np.int64)
    for index in present:
        positions = np.flatnonzero(classes == index)
        images[positions] = np.resize(
            rng.permutation(np.flatnonzero(has_class[:, index])), len(positions)
        )  # few repeats
    return images, classes


def draw_in_proportion(factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw as many indices as there are factors, each in proportion to its factor, rounded up or down.

    Systematic sampling: images are placed end to end on a line, each as long as its factor, and evenly spaced points
    (a comb) select images. Equal factors are adjacent, so their total is rounded only once.
    """
    order = rng.permutation(len(factors))
    order = order[np.argsort(factors[order], kind="stable")]
    ends = np.cumsum(factors[order]) * (len(factors) / factors.sum())
    ends[-1] = len(factors)
    comb = float(rng.random(dtype=np.float32))  # float32, so that its sum with a whole number is exact in float64
    counts = np.diff(np.floor(ends + comb), prepend=0).astype(int)
    return rng.permutation(np.repeat(order, counts))
