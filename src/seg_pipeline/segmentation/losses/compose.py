"""Builds a loss from the names and weights of its terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seg_pipeline.segmentation.losses.batches import Multiclass, Multilabel
from seg_pipeline.segmentation.losses.terms import Batch, cross_entropy, dice, focal, lovasz, tversky

Loss = Callable[[Tensor, Tensor], Tensor]

TERMS = {
    "multilabel": ("bce", "dice", "focal", "tversky", "lovasz"),
    "multiclass": ("ce", "dice", "focal", "tversky", "lovasz"),
}
"""Term names per task, cross-entropy first."""


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
    return partial(
        _weighted_sum,
        make_batch=partial(Multilabel if task == "multilabel" else Multiclass, background=background),
        terms=[(weight, functions[name]) for name, weight in terms.items()],
        class_weights=None if class_weights is None else tuple(class_weights),
    )


def _weighted_sum(
    logits: Tensor,
    truth: Tensor,
    *,
    make_batch: Callable[[Tensor, Tensor, Tensor], Batch],
    terms: list[tuple[float, Callable[[Any], Tensor]]],
    class_weights: tuple[float, ...] | None,
) -> Tensor:
    num_channels = logits.shape[1]
    if class_weights is not None and len(class_weights) != num_channels:
        raise ValueError(
            f"class_weights: {len(class_weights)} numbers, but the network has {num_channels} channels; "
            "give one number a channel, the background's first where there is one"
        )
    weights = torch.tensor(class_weights or [1.0] * num_channels, dtype=torch.float32, device=logits.device)
    batch = make_batch(logits, truth, weights)
    return torch.stack([weight * term(batch) for weight, term in terms]).sum()


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
    if wrong := {name: weight for name, weight in terms.items() if not 0 < weight < math.inf}:
        raise ValueError(f"loss terms: expected weights above 0, found {wrong}; leave out what should not count")


def _check_weights(class_weights: Sequence[float] | None, background: bool) -> None:
    if class_weights is None:
        return
    if not all(0 <= weight < math.inf for weight in class_weights) or not any(class_weights[int(background) :]):
        raise ValueError(
            f"class_weights: expected numbers from 0 on, one of a class above 0, found {list(class_weights)}"
        )
