"""Mixup and cutmix of a batch with itself.

Axes: B images, K channels of the image, C classes, H rows, W columns. Each image meets the one before it in the
batch, which the loader has shuffled. What is drawn is drawn on the host: tensors stay on their device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

Truths = list[tuple[float, Tensor]]
"""Truths of a batch with their weights, which add up to 1: the loss is the weighted sum of the losses."""


class Mixing(Protocol):
    def __call__(self, images: Tensor, truth: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Truths]: ...


MIXUP_ALPHA = 0.2
"""Of the Beta distribution of the blend: mostly near 0 or 1 (0.1 to 0.4 in Zhang et al. 2018, section 3.1)."""


def make_mixing(name: Literal["none", "mixup", "cutmix"], *, share: float, seed: int) -> Mixing | None:
    """What ``mix(images, truth, epoch=..., step=...)`` draws is a function of (seed, epoch, step).

    Takes images uint8 (B, K, H, W) and truth uint8 (B, C, H, W) or (B, H, W), which stay as they are; gives the
    images mixed and their truths. None where nothing is ever mixed.

    cutmix (Yun et al. 2019): one rectangle, image and truth, of the other image; its area is uniform.
    mixup (Zhang et al. 2018): images blended; both truths, weighted as the images.

    Args:
        share: of the batches that are mixed.

    Raises:
        ValueError: no mixing has this name.
    """
    kinds = {"mixup": _mixup, "cutmix": _cutmix}
    if name not in ("none", *kinds):
        raise ValueError(f"mix {name!r} is none of none, {', '.join(kinds)}")
    if name == "none" or share == 0:
        return None
    return partial(_mix, kinds[name], share, seed)


def _mix(
    kind: Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Truths]],
    share: float,
    seed: int,
    images: Tensor,
    truth: Tensor,
    *,
    epoch: int,
    step: int,
) -> tuple[Tensor, Truths]:
    rng = np.random.default_rng([seed, epoch, step])
    if rng.random() >= share or len(images) < 2:
        return images, [(1.0, truth)]
    return kind(images, truth, rng)


def _mixup(images: Tensor, truth: Tensor, rng: np.random.Generator) -> tuple[Tensor, Truths]:
    kept = float(rng.beta(MIXUP_ALPHA, MIXUP_ALPHA))
    mine = images.float()
    blend = mine.lerp(mine.roll(1, 0), 1 - kept).round_().to(images.dtype)
    return blend, [(kept, truth), (1 - kept, truth.roll(1, 0))]


def _cutmix(images: Tensor, truth: Tensor, rng: np.random.Generator) -> tuple[Tensor, Truths]:
    height, width = images.shape[-2:]
    side = np.sqrt(rng.random())
    rows, columns = _span(height, side, rng), _span(width, side, rng)
    return _pasted(images, rows, columns), [(1.0, _pasted(truth, rows, columns))]


def _span(length: int, side: float, rng: np.random.Generator) -> slice:
    """``side`` of the length, wholly inside."""
    size = round(side * length)
    start = int(rng.integers(length - size + 1))
    return slice(start, start + size)


def _pasted(batch: Tensor, rows: slice, columns: slice) -> Tensor:
    mixed = batch.clone()
    mixed[..., rows, columns] = batch[..., rows, columns].roll(1, 0)
    return mixed
