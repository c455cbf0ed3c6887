"""Choice and order of the images of an epoch, a function of (seed, epoch) alone so that a resumed run is exact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

from seg_pipeline.segmentation.data.datasets import Draw
from seg_pipeline.segmentation.manifest.table import class_names

BALANCED_SHARE = 0.7
"""Of the draws, for ``oversampling: classes``; the others show images as they come, so that all are seen."""


def check_shares(batch_size: int, num_images: int, world: int) -> None:
    """Raises ValueError if ``world`` processes cannot take equal parts of a batch of the train images."""
    if batch_size % world:
        raise ValueError(
            f"`batch_size: {batch_size}` does not divide by {world} processes, which take equal parts of a batch; "
            f"set {batch_size - batch_size % world or world} or another multiple"
        )
    if num_images < world:
        raise ValueError(f"{num_images} train images are too few for {world} processes; lower `devices`")


class EpochSampler(Sampler[list[Draw]]):
    """The batches of an epoch, as one process or one of several sees them: lists of ``Draw``.

    An epoch has as many draws as there are images, less what is left over for a last batch: one of a single
    image would leave batch norm nothing to average over. Fewer images than a batch are one batch.

    Args:
        rows: of the manifest, as the data set has them.
        batch_size: of all processes together; each takes its ``rank``'s part of every batch.
        oversampling: none; foreground, as ``image_factors``; classes: ``BALANCED_SHARE`` of the draws, as
            ``draw_classes``.
        background: the first channel of the truth is no class.

    Raises:
        ValueError: the batch does not divide by the number of processes, or there are fewer images than those.
    """

    epoch: int = 0
    """Decides order and augmentation; set from outside."""
    start: int = 0
    """First step to take, set by the caller to resume within an epoch."""

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
        self.shown = rows[[f"area_{name}" for name in class_names(rows)]].to_numpy() > 0
        self.factors, self.oversampling, self.background = (
            image_factors(self.shown, oversampling),
            oversampling,
            background,
        )
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
        if self.oversampling == "classes":
            chosen = rng.random(len(drawn)) < BALANCED_SHARE
            drawn[chosen], labels[chosen] = draw_classes(self.shown, int(chosen.sum()), rng)
            labels[chosen] += self.background
        return np.column_stack([drawn, pd.Series(drawn).groupby(drawn).cumcount(), labels])


def image_factors(shown: np.ndarray, oversampling: str) -> np.ndarray:
    """How often each image is drawn, in proportion to the others.

    Args:
        shown: bool (N, C), whether an image shows a class.
        oversampling: foreground: images that show a class take half of the draws; else all alike.
    """
    if oversampling != "foreground":
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
