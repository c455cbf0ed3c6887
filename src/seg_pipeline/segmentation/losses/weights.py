"""Weights of classes that are rare."""

from __future__ import annotations

import math
from collections.abc import Sequence


def balanced_weights(pixels: Sequence[float]) -> tuple[float, ...]:
    """Class weights 1 / ln(1.02 + p), p the share of a class in all ``pixels``, scaled to a mean of 1.

    Source: ENet (Paszke et al. 2016, arXiv:1606.02147): at most 36 times as much for one class as for another,
    where 1 / p knows no bound. A class without a pixel gets the largest of the others' weights.

    Raises:
        ValueError: no class has a pixel.
    """
    total = sum(pixels)
    if not total > 0:
        raise ValueError(
            f"class_weights: none of the {len(pixels)} classes has a pixel in the train split; "
            "check the masks, or set `class_weights: none`"
        )
    raw = [1 / math.log(1.02 + count / total) if count else 0.0 for count in pixels]
    raw = [weight or max(raw) for weight in raw]
    return tuple(weight * len(raw) / sum(raw) for weight in raw)
