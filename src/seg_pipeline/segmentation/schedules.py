"""Learning rates as pure functions of the step, counted from 0: a resumed run needs no schedule state."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial


def cosine_rate(step: int, *, peak: float, warmup: int, total: int) -> float:
    """Linear up to ``peak`` over ``warmup`` steps, then half a cosine down to 0 at ``total`` and after.

    Source: Loshchilov and Hutter 2017 (SGDR, arXiv:1608.03983), without restarts.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min((step - warmup) / max(total - warmup, 1), 1)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


def constant_rate(step: int, *, peak: float, warmup: int = 0) -> float:
    """Linear up to ``peak`` over ``warmup`` steps, then ``peak``."""
    return peak * min((step + 1) / max(warmup, 1), 1)


def make_schedule(name: str, *, peak: float, warmup: int, total: int) -> Callable[[int], float]:
    """Rate of each step: "cosine" or "constant".

    Raises:
        ValueError: the name is unknown, or the warm-up is longer than the run.
    """
    if warmup > total:
        raise ValueError(f"warm-up of {warmup} steps, but the run has {total}; shorten it or train longer")
    if name == "cosine":
        return partial(cosine_rate, peak=peak, warmup=warmup, total=total)
    if name == "constant":
        return partial(constant_rate, peak=peak, warmup=warmup)
    raise ValueError(f"schedule: {name!r} is unknown; expected cosine or constant")
