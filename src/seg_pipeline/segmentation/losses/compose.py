"""Builds a loss from the names and weights of its terms."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seg_pipeline.segmentation.losses.batches import Multiclass, Multilabel
from seg_pipeline.segmentation.losses.terms import Batch, cross_entropy, dice, focal, lovasz, tversky

TERMS = {
    "multilabel": ("bce", "dice", "focal", "tversky", "lovasz"),
    "multiclass": ("ce", "dice", "focal", "tversky", "lovasz"),
}
"""Term names per task, cross-entropy first."""
PIXEL_MEANS = ("bce", "ce", "focal")
"""Terms that are means over pixels: those of the parts of a batch add up to that of the whole."""


class BatchSums(NamedTuple):
    """Sums over a whole batch that the loss of a part of it needs."""

    weight: Tensor
    """Sum of all pixel weights."""
    num_images: int


class Loss:
    """A weighted sum of loss terms; ``make_loss`` builds it."""

    def __init__(
        self,
        terms: Mapping[str, tuple[float, Callable[[Any], Tensor]]],
        make_batch: Callable[..., Batch],
        class_weights: Sequence[float] | None,
    ) -> None:
        self.terms, self.make_batch, self.class_weights = terms, make_batch, class_weights
        self._weights: dict[tuple[torch.device, int], Tensor] = {}

    def __call__(self, logits: Tensor, truth: Tensor, *, batch_sums: BatchSums | None = None) -> Tensor:
        """Loss of logits (B, K, H, W) and truth (B, C, H, W) or (B, H, W).

        Args:
            batch_sums: of the batch, if these images are only a part of it. The parts' losses then add up to the
                batch's loss in the terms of ``PIXEL_MEANS``, and to the image-weighted mean of the parts in the others.
        """
        batch = self.make_batch(logits, truth, self._channel_weights(logits.shape[1], logits.device))
        share = 1.0
        if batch_sums is not None:
            batch.total_weight, share = batch_sums.weight, len(logits) / batch_sums.num_images
        return torch.stack(
            [
                weight * (1.0 if name in PIXEL_MEANS else share) * term(batch)
                for name, (weight, term) in self.terms.items()
            ]
        ).sum()

    def batch_sums(self, truth: Tensor, num_channels: int) -> BatchSums:
        """Sums of a whole batch, for calls with its parts."""
        weights = self._channel_weights(num_channels, truth.device)
        kind = Multilabel if truth.ndim == 4 else Multiclass
        return BatchSums(kind.pixel_weights(truth, weights).sum(), len(truth))

    def _channel_weights(self, num_channels: int, device: torch.device) -> Tensor:
        """Class weights on the device, copied once, because a copy per step would make the host wait for the device."""
        if self.class_weights is not None and len(self.class_weights) != num_channels:
            raise ValueError(
                f"class_weights: {len(self.class_weights)} numbers, but the network has {num_channels} channels; "
                "give one number per channel, starting with the background's if there is one"
            )
        if (device, num_channels) not in self._weights:
            with torch.inference_mode(False):  # training uses it too
                weights = torch.tensor(self.class_weights or [1.0] * num_channels, dtype=torch.float32, device=device)
            self._weights[device, num_channels] = weights
        return self._weights[device, num_channels]


def default_terms(task: str) -> dict[str, float]:
    """Default weights of cross-entropy and Dice: 0.5 and 0.5 for multilabel, 0.75 and 0.25 for multiclass.

    These weights scored best on the sample and on CamVid (docs/explanation/real_data.md).
    """
    share = 0.5 if task == "multilabel" else 0.25
    return {_terms_of(task)[0]: 1 - share, "dice": share}


def make_loss(
    task: str,
    *,
    terms: Mapping[str, float] | None = None,
    class_weights: Sequence[float] | None = None,
    focal_gamma: float = 2.0,
    tversky_beta: float = 0.7,
    background: bool = False,
) -> Loss:
    """Build the weighted sum of loss terms, which ``losses.terms`` defines.

    Args:
        terms: weight per term: bce (multilabel), ce (multiclass), dice, focal, tversky, lovasz; None:
            ``default_terms``.
        class_weights: one per channel, background first. In bce, ce and focal they weight pixels, and the mean
            divides by the sum of weights; in dice, tversky and lovasz they weight classes.
        focal_gamma: exponent of focal; 0 makes it the cross-entropy.
        tversky_beta: weight of false negatives; false positives weigh 1 - beta.
        background: channel 0 is the background, which dice, tversky and lovasz leave out.

    Raises:
        ValueError: unknown task or term, or invalid weight. The loss itself raises it if ``class_weights`` and
            channels differ in number.
    """
    terms = default_terms(task) if terms is None else terms
    _check_terms(task, terms)
    _check_weights(class_weights, background)
    functions: dict[str, Callable[[Any], Tensor]] = {
        "bce": cross_entropy,
        "ce": cross_entropy,
        "dice": dice,
        "focal": partial(focal, gamma=focal_gamma),
        "tversky": partial(tversky, beta=tversky_beta),
        "lovasz": lovasz,
    }
    return Loss(
        {name: (weight, functions[name]) for name, weight in terms.items()},
        partial(Multilabel if task == "multilabel" else Multiclass, background=background),
        class_weights,
    )


def _terms_of(task: str) -> tuple[str, ...]:
    if task not in TERMS:
        raise ValueError(f"task: {task!r} is unknown; expected one of {', '.join(TERMS)}")
    return TERMS[task]


def _check_terms(task: str, terms: Mapping[str, float]) -> None:
    known = ", ".join(_terms_of(task))
    if not terms:
        raise ValueError(f"loss terms: none given; expected weights of some of {known}, or null for the default")
    if unknown := [name for name in terms if name not in TERMS[task]]:
        raise ValueError(f"loss terms: {', '.join(unknown)} not known for task {task!r}; expected some of {known}")
    if invalid := {name: weight for name, weight in terms.items() if not 0 < weight < math.inf}:
        raise ValueError(f"loss terms: expected weights above 0, found {invalid}; leave out what should not count")


def _check_weights(class_weights: Sequence[float] | None, background: bool) -> None:
    if class_weights is None:
        return
    if not all(0 <= weight < math.inf for weight in class_weights) or not any(class_weights[int(background) :]):
        raise ValueError(
            f"class_weights: expected numbers of at least 0, and above 0 for some class, found {list(class_weights)}"
        )
