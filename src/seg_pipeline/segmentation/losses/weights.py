"""Weights of classes that are rare."""

from collections.abc import Sequence


def balanced_weights(pixels: Sequence[float]) -> tuple[float, ...]:
    """Class weights 1 / sqrt(p), p the share of a class in all ``pixels``, scaled to a mean of 1 over the pixels.

    A class with a hundredth of another's pixels weighs ten times as much: 1 / p would let a few pixels rule. A class
    without a pixel gets the largest of the others' weights.

    Raises:
        ValueError: no class has a pixel.
    """
    total = sum(pixels)
    if not total > 0:
        raise ValueError(
            f"class_weights: none of the {len(pixels)} classes has a pixel in the train split; "
            "check the masks, or set `class_weights: none`"
        )
    shares = [count / total for count in pixels]
    raw = [share**-0.5 if share else 0.0 for share in shares]
    mean = sum(share * weight for share, weight in zip(shares, raw, strict=True))
    return tuple((weight or max(raw)) / mean for weight in raw)
