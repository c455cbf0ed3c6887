"""Quantities that several loss terms share, per task; computed once for all terms."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.losses.ranks import global_sum


def computed_once(compute: Callable[[Any], Any]) -> property:
    """``functools.cached_property`` without the lock that it has in Python 3.11: torch.compile would stop there."""
    name = f"_computed_{compute.__name__}"

    def get(self: Any) -> Any:
        if not hasattr(self, name):
            setattr(self, name, compute(self))
        return getattr(self, name)

    return property(get)


class Overlap(NamedTuple):
    """Sums over the known pixels of all ranks: float (C,), without the background."""

    hit: Tensor
    """Probability of the class, summed over the pixels of the class (soft true positives)."""
    predicted: Tensor
    """Probability of the class, summed over all pixels."""
    actual: Tensor
    """Number of pixels of the class."""


class Errors(NamedTuple):
    """Input of the Lovász extension: float (C, pixels), without the background."""

    error: Tensor
    """At least 0; 0 for ignored pixels."""
    positive: Tensor
    """1 for pixels of the class, else 0."""


class Multilabel:
    """Sigmoid: every class of every pixel is a separate decision, which may be ignored.

    Attributes:
        weight: (B, C, H, W), the class weight, or 0 where ignored.
        total_weight: sum of ``weight`` over these images, or over the whole batch if they are a part of it.
        class_weights: (C,).
    """

    def __init__(self, logits: Tensor, truth: Tensor, channel_weights: Tensor, *, background: bool) -> None:
        assert logits.shape == truth.shape, (logits.shape, truth.shape)
        assert not background
        self.logits = _contiguous(logits)
        self.known = (truth != IGNORE).float()
        self.positive = truth.float() * self.known
        self.class_weights = channel_weights
        self.weight = self.pixel_weights(truth, channel_weights)
        self.total_weight = self.weight.sum()

    @staticmethod
    def pixel_weights(truth: Tensor, channel_weights: Tensor) -> Tensor:
        return (truth != IGNORE).float() * channel_weights.view(1, -1, 1, 1)

    @computed_once
    def cross_entropy(self) -> Tensor:
        """(B, C, H, W), arbitrary where ignored."""
        return _Softplus.apply(self.logits * (1 - 2 * self.positive))

    @computed_once
    def overlap(self) -> Overlap:
        prob = self.logits.sigmoid()
        parts = (prob * self.positive, prob * self.known, self.positive)
        return Overlap(*global_sum(torch.stack([part.sum((0, 2, 3)) for part in parts])))

    def errors(self) -> Errors:
        """Hinge losses of the logits, as in Berman et al. 2018 for binary problems."""
        error = (1 - self.logits * (2 * self.positive - 1)).relu() * self.known
        return Errors(*(part.transpose(0, 1).flatten(1) for part in (error, self.positive)))


class Multiclass:
    """Softmax: every pixel belongs to one channel.

    Attributes:
        weight: (B, H, W), the weight of the pixel's channel, or 0 where ignored.
        total_weight: sum of ``weight`` over these images, or over the whole batch if they are a part of it.
        class_weights: (C,).
    """

    def __init__(self, logits: Tensor, truth: Tensor, channel_weights: Tensor, *, background: bool) -> None:
        assert logits[:, 0].shape == truth.shape, (logits.shape, truth.shape)
        self.logits = _contiguous(logits)
        self.known = (truth != IGNORE).float()
        self.truth = truth.long()
        self.first = int(background)
        self.class_weights = channel_weights[self.first :]
        self.weight = self.pixel_weights(self.truth, channel_weights)
        self.total_weight = self.weight.sum()

    @staticmethod
    def pixel_weights(truth: Tensor, channel_weights: Tensor) -> Tensor:
        return F.pad(channel_weights, (0, IGNORE + 1 - len(channel_weights))).take(truth.long())

    @computed_once
    def _softmax(self) -> tuple[Tensor, Tensor]:
        return _Softmax.apply(self.logits, self.truth, self.known)

    @property
    def cross_entropy(self) -> Tensor:
        """(B, H, W), arbitrary where ignored."""
        return self._softmax[0]

    @computed_once
    def overlap(self) -> Overlap:
        cross_entropy, predicted = self._softmax
        parts = torch.stack([self._by_channel((-cross_entropy).exp()), predicted, self._by_channel(self.known)])
        return Overlap(*global_sum(parts[:, self.first :]))

    def _by_channel(self, values: Tensor) -> Tensor:
        """Sum values (B, H, W) per channel of the truth: (K,). A one-hot truth would take K times as long."""
        # Per image first: adding ones to a float32 sum has no effect beyond 2^24.
        sums = values.new_zeros(len(values), IGNORE + 1).scatter_add(1, self.truth.flatten(1), values.flatten(1))
        return sums.sum(0)[: self.logits.shape[1]]

    def errors(self) -> Errors:
        """Distances of the probabilities from the one-hot truth, as in Berman et al. 2018."""
        prob = self.logits.softmax(1)[:, self.first :].transpose(0, 1).flatten(1)
        channels = torch.arange(self.first, self.logits.shape[1], device=prob.device)
        positive = (self.truth.flatten() == channels[:, None]).float()
        return Errors((positive - prob).abs() * self.known.flatten(), positive)


def _contiguous(logits: Tensor) -> Tensor:
    """Logits as float32 in the truth's memory layout: operations on mixed layouts take twice as long."""
    return logits.to(torch.float32, memory_format=torch.contiguous_format)


class _Softplus(Function):
    """log(1 + exp x). torch's softplus takes nine times as long on the CPU, where log1p is not vectorised."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.relu().sub_(x.abs().sigmoid_().log_())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x.sigmoid().mul_(grad)


class _Softmax(Function):
    """Cross-entropy per pixel (B, H, W), and probabilities per channel summed over known pixels (K,).

    Both need the same (B, K, H, W) arrays; computed by hand, they cost as much as torch's cross-entropy alone.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, truth: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        channel = truth[:, None].clamp(max=logits.shape[1] - 1)  # arbitrary for ignored pixels
        log_prob = logits.log_softmax(1)
        cross_entropy = log_prob.gather(1, channel).neg_()
        prob = log_prob.exp_().mul_(known[:, None])
        ctx.save_for_backward(prob, channel)
        return cross_entropy[:, 0], prob.sum((0, 2, 3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_entropy: Tensor, of_sums: Tensor) -> tuple[Tensor, None, None]:
        prob, channel = ctx.saved_tensors
        of_entropy = of_entropy[:, None]
        grad = prob * of_sums.view(1, -1, 1, 1)
        grad.addcmul_(prob, of_entropy - grad.sum(1, keepdim=True))
        return grad.scatter_add_(1, channel, -of_entropy), None, None
