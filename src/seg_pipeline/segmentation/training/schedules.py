"""Learning rates as pure functions of a run's progress from 0 to 1, measured in steps or in minutes.

A resumed run needs no schedule state, and a run with a time budget ends its schedule when the time ends.
"""

import math
from collections.abc import Callable
from functools import partial

Curve = Callable[[float], float]
"""Maps progress, 0 to 1, to a fraction of the peak."""

START = 1 / 25
"""Fraction of the peak at which a warm-up starts; above 0, so that the first step changes the weights."""
ONE_CYCLE_END = 1e-4


def make_schedule(name: str, *, peak: float, warmup: float) -> Curve:
    """Rate by progress: up to ``peak`` over the fraction ``warmup`` of the run, then down; constant after 1.

    Without a warm-up the rate starts at the peak; with ``warmup`` 1 it ends there. The warm-up is linear, from 1/25 of
    the peak; "one_cycle" rises along half a cosine.

    - constant: stays at the peak.
    - cosine: half a cosine down to 0 (Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983, without restarts).
    - one_cycle: half a cosine down to peak / 1e4 (Smith 2018, arXiv:1803.09820, with cosines instead of lines);
      made for a long warm-up, 0.3 or so.
    - poly: (1 - x)^0.9 down to 0 (Chen et al. 2017, DeepLab, arXiv:1606.00915).

    Raises:
        ValueError: the name is unknown, or ``warmup`` is outside 0..1.
    """
    if name not in FALLS:
        raise ValueError(f"schedule: {name!r} is unknown; expected one of {', '.join(FALLS)}")
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup: {warmup:g} is outside 0..1; it is a share of the run")
    rise = _half_cosine if name == "one_cycle" else _linear
    return partial(_rate, peak=peak, warmup=warmup, rise=partial(rise, start=START, end=1), fall=FALLS[name])


def _rate(progress: float, *, peak: float, warmup: float, rise: Curve, fall: Curve) -> float:
    if progress < warmup:
        return peak * rise(progress / warmup)
    if warmup == 1:
        return peak
    return peak * fall(min((progress - warmup) / (1 - warmup), 1))


def _linear(x: float, *, start: float, end: float) -> float:
    return start + (end - start) * x


def _half_cosine(x: float, *, start: float, end: float) -> float:
    return start + (end - start) * (1 - math.cos(math.pi * x)) / 2


def _poly(x: float) -> float:
    return (1 - x) ** 0.9


FALLS: dict[str, Curve] = {
    "constant": partial(_linear, start=1, end=1),
    "cosine": partial(_half_cosine, start=1, end=0),
    "one_cycle": partial(_half_cosine, start=1, end=ONE_CYCLE_END),
    "poly": _poly,
}
