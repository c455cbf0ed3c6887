"""Losses: functions of logits and masks, with one number as result.

Axes: B images, K channels of the logits, C classes of the masks, H rows, W columns; 1 marks a kept axis.
Logits are float (B, K, H, W). Masks are uint8 (B, C, H, W) of 0, 1 and ``IGNORE``; a pixel with ``IGNORE`` in
any class counts nowhere. Sums run in float32 whatever the dtype of the logits: a sum over 1e6 pixels is
beyond bfloat16's 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from seg_pipeline.segmentation.masks import IGNORE

Loss = Callable[[Tensor, Tensor], Tensor]


def bce_dice(logits: Tensor, masks: Tensor, *, dice_weight: float = 0.5) -> Tensor:
    """``(1 - dice_weight) × BCE + dice_weight × Dice``: binary cross-entropy and Dice of sigmoid(logits).

    For ``multilabel`` (K = C). The cross-entropy is the mean over classes and known pixels.
    """
    logits = logits.float()
    known_B1HW = (masks != IGNORE).all(1, keepdim=True)
    truth = ((masks == 1) & known_B1HW).float()
    total = F.binary_cross_entropy_with_logits(logits, truth, known_B1HW, reduction="sum")
    bce = total / (known_B1HW.sum() * masks.shape[1]).clamp(min=1)
    dice = soft_dice_loss(logits.sigmoid() * known_B1HW, truth)
    return (1 - dice_weight) * bce + dice_weight * dice


def ce_dice(logits: Tensor, masks: Tensor, *, dice_weight: float = 0.5) -> Tensor:
    """``(1 - dice_weight) × CE + dice_weight × Dice``: cross-entropy and Dice of softmax(logits).

    For ``multiclass``; channels as in ``class_target``. The cross-entropy is the mean over known pixels;
    the Dice term leaves the background out.
    """
    logits = logits.float()
    num_channels, num_classes = logits.shape[1], masks.shape[1]
    target = class_target(masks, num_channels)
    known = target != IGNORE
    ce = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum") / known.sum().clamp(min=1)
    channels = torch.arange(num_channels - num_classes, num_channels, device=logits.device)
    truth = (target[:, None] == channels.view(1, -1, 1, 1)).float()
    prob = logits.softmax(1)[:, num_channels - num_classes :]
    dice = soft_dice_loss(prob * known[:, None], truth)
    return (1 - dice_weight) * ce + dice_weight * dice


def class_target(masks: Tensor, num_channels: int) -> Tensor:
    """Channel that each pixel belongs to, int64 (B, H, W), ``IGNORE`` where it counts nowhere.

    With C + 1 channels, channel 0 is the background (pixels in no class) and class c is channel c + 1. With C
    channels there is no background: class c is channel c and pixels in no class are ignored. Where classes
    overlap, the last one wins, as if the classes were painted in order.

    Raises:
        ValueError: ``num_channels`` is neither C nor C + 1.
    """
    num_classes = masks.shape[1]
    background = num_channels - num_classes
    if background not in (0, 1):
        raise ValueError(
            f"multiclass logits have {num_channels} channels, but masks of {num_classes} classes need "
            f"{num_classes}, or {num_classes + 1} with a background; set the model's num_classes to one"
        )
    numbers = torch.arange(1, num_classes + 1, device=masks.device).view(1, -1, 1, 1)
    last = ((masks == 1) * numbers).amax(1)  # 0 in no class, c + 1 in class c
    ignored = (masks == IGNORE).any(1)
    if not background:
        ignored |= last == 0
        last = last - 1
    return last.masked_fill(ignored, IGNORE)


def soft_dice_loss(prob: Tensor, truth: Tensor, *, smooth: float = 1.0) -> Tensor:
    """1 - mean over classes of (2 Σpg + s) / (Σp + Σg + s), sums over the pixels of the whole batch.

    Soft Dice of Milletari et al. 2016 (V-Net, arXiv:1606.04797), with plain instead of squared sums below the
    line. The ``smooth`` pixels s give a class that the batch lacks the loss Σp / (Σp + s): 0 where nothing is
    predicted, with a gradient against every false positive. A class of a few pixels stays almost as it is.

    Args:
        prob: Probabilities (B, C, H, W), 0 where ignored.
        truth: 0 or 1 (B, C, H, W), 0 where ignored.
        smooth: In pixels.
    """
    axes = (0, 2, 3)
    dice = (2 * (prob * truth).sum(axes) + smooth) / (prob.sum(axes) + truth.sum(axes) + smooth)
    return 1 - dice.mean()


LOSSES: dict[str, dict[str, Callable[..., Tensor]]] = {
    "multilabel": {"bce_dice": bce_dice},
    "multiclass": {"ce_dice": ce_dice},
}
"""By task and name; the first of a task is its default."""


def make_loss(task: str, name: str | None = None, *, dice_weight: float = 0.5) -> Loss:
    """The loss called ``name``, or the default one of the task.

    Raises:
        ValueError: the task is unknown or has no such loss, or ``dice_weight`` is outside 0..1.
    """
    if task not in LOSSES:
        raise ValueError(f"task: {task!r} is unknown; expected one of {', '.join(LOSSES)}")
    losses = LOSSES[task]
    if name is not None and name not in losses:
        raise ValueError(f"loss: {name!r} is not one for task {task!r}; expected one of {', '.join(losses)}")
    if not 0 <= dice_weight <= 1:
        raise ValueError(f"dice_weight: {dice_weight} is outside 0..1")
    return partial(losses[name or next(iter(losses))], dice_weight=dice_weight)
