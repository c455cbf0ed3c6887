"""Mixup and CutMix within a batch.

Axes: B images, K channels of the image, C classes, H rows, W columns. Each image is mixed with the previous one in
the batch, which the loader has shuffled. Random numbers are drawn on the host; tensors stay on their device.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

Truths = list[tuple[float, Tensor]]
"""Ground truths of a batch and their weights, which add up to 1: the loss is the weighted sum of their losses."""


class Mixing(Protocol):
    def __call__(self, images: Tensor, truth: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Truths]: ...


MIXUP_ALPHA = 0.2
"""Parameter of the blend's Beta distribution, mostly near 0 or 1 (0.1 to 0.4 in Zhang et al. 2018, section 3.1)."""


def make_mixing(name: Literal["none", "mixup", "cutmix"], *, share: float, seed: int) -> Mixing | None:
    """Build ``mix(images, truth, epoch=..., step=...)``, whose random draws depend only on (seed, epoch, step).

    ``mix`` takes images uint8 (B, K, H, W) and truth uint8 (B, C, H, W) or (B, H, W), does not modify them, and
    returns mixed images and their ground truths. Returns None if nothing would ever be mixed.

    cutmix (Yun et al. 2019): a rectangle of image and truth is replaced by the other image's; its area is uniformly
    distributed. mixup (Zhang et al. 2018): images are blended; both truths are kept, with the images' weights.

    Args:
        share: fraction of the batches to mix.

    Raises:
        ValueError: unknown name.
    """
    methods = {"mixup": _mixup, "cutmix": _cutmix}
    if name not in ("none", *methods):
        raise ValueError(f"mix {name!r} is unknown; expected one of none, {', '.join(methods)}")
    if name == "none" or share == 0:
        return None
    return partial(_mix, methods[name], share, seed)


def _mix(
    method: Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Truths]],
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
    return method(images, truth, rng)


def _mixup(images: Tensor, truth: Tensor, rng: np.random.Generator) -> tuple[Tensor, Truths]:
    own_weight = float(rng.beta(MIXUP_ALPHA, MIXUP_ALPHA))
    original = images.float()
    blend = original.lerp(original.roll(1, 0), 1 - own_weight).round_().to(images.dtype)
    return blend, [(own_weight, truth), (1 - own_weight, truth.roll(1, 0))]


def _cutmix(images: Tensor, truth: Tensor, rng: np.random.Generator) -> tuple[Tensor, Truths]:
    height, width = images.shape[-2:]
    side = np.sqrt(rng.random())
    rows, columns = _span(height, side, rng), _span(width, side, rng)
    return _paste_rectangle(images, rows, columns), [(1.0, _paste_rectangle(truth, rows, columns))]


def _span(length: int, side: float, rng: np.random.Generator) -> slice:
    """A random span of ``side`` times the length."""
    size = round(side * length)
    start = int(rng.integers(length - size + 1))
    return slice(start, start + size)


def _paste_rectangle(batch: Tensor, rows: slice, columns: slice) -> Tensor:
    mixed = batch.clone()
    mixed[..., rows, columns] = batch[..., rows, columns].roll(1, 0)
    return mixed
