"""The terms of a loss, by name."""

import numpy as np
import torch
from torch import Tensor

from seg_pipeline.segmentation.losses.batches import Multiclass, Multilabel
from seg_pipeline.segmentation.losses.ranks import global_sum, num_ranks

Batch = Multilabel | Multiclass

SMOOTH = 0.5
"""Added to the true positives of each class in Dice and Tversky, in pixels."""


def cross_entropy(batch: Batch) -> Tensor:
    """Weighted mean of the cross-entropy over known pixels (and classes, for multilabel)."""
    return _pixel_mean(batch, batch.cross_entropy)


def focal(batch: Batch, *, gamma: float) -> Tensor:
    """Cross-entropy with each pixel multiplied by (1 - p)^gamma; p is the predicted probability of the truth.

    Source: Lin et al. 2017 (arXiv:1708.02002); class weights replace its alpha. For multiclass, p is the
    softmax probability of the pixel's channel.
    """
    # Above 0, because for gamma < 1 the slope of x^gamma is infinite at 0, and infinity times 0 is NaN.
    error = (1 - (-batch.cross_entropy).exp()).clamp(min=1e-7)
    return _pixel_mean(batch, error**gamma * batch.cross_entropy)


def tversky(batch: Batch, *, beta: float) -> Tensor:
    """1 - mean over classes of (TP + s) / (TP + beta FN + (1 - beta) FP + s), from sums over the whole batch.

    Source: Salehi et al. 2017 (arXiv:1706.05721). With beta = 1/2 it is the soft Dice of Milletari et al. 2016
    (V-Net, arXiv:1606.04797) with plain instead of squared sums below the line: (2 TP + 2s) / (Σp + Σg + 2s).
    The ``SMOOTH`` pixels s give a class that the batch lacks the loss 1 - s / ((1 - beta) Σp + s): 0 where
    nothing is predicted, with a gradient against every false pixel. A class of a few pixels stays almost as it is.
    """
    hit, predicted, actual = batch.overlap
    score = (hit + SMOOTH) / (hit + beta * (actual - hit) + (1 - beta) * (predicted - hit) + SMOOTH)
    return ((1 - score) * batch.class_weights).sum() / batch.class_weights.sum()


def dice(batch: Batch) -> Tensor:
    return tversky(batch, beta=0.5)


def lovasz(batch: Batch) -> Tensor:
    """Mean over the classes that the batch shows of the Lovász extension of 1 - IoU.

    Source: Berman et al. 2018 (arXiv:1705.08790): Lovász-Softmax for ``multiclass``, Lovász hinge for
    ``multilabel``. It is not a ratio of sums: with several ranks it is the mean of the ranks' values.
    """
    error, positive = batch.errors()
    order = _descending_order(error.detach())
    error, positive = error.gather(1, order), positive.gather(1, order)
    actual, true_pos = positive.sum(1, keepdim=True), positive.cumsum(1)
    num_predicted = torch.arange(1, error.shape[1] + 1, device=error.device)
    # 1 - IoU if the pixels up to each place were wrong and the rest right
    loss = 1 - (actual - true_pos) / (actual + num_predicted - true_pos)
    step = loss.diff(dim=1, prepend=torch.zeros_like(actual))
    weight = batch.class_weights * (actual[:, 0] > 0)
    return global_sum(_safe_divide(((error * step).sum(1) * weight).sum(), weight.sum())) / num_ranks()


def _pixel_mean(batch: Batch, values: Tensor) -> Tensor:
    """Weighted mean over the known pixels of all ranks."""
    return _safe_divide(*global_sum(torch.stack([(values * batch.weight).sum(), batch.total_weight])))


def _safe_divide(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``; 0, not NaN, where both are 0."""
    return part / whole.clamp(min=torch.finfo(whole.dtype).tiny)


def _descending_order(values: Tensor) -> Tensor:
    """Order of each row; on CPU by NumPy, which takes a fifth of torch's time."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.argsort(-values.numpy(), axis=1))
    return values.argsort(1, descending=True)
