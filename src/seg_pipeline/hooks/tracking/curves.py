"""Tables of epochs as rows of metrics: one table for the run itself, one for each run nested in it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seg_pipeline.hooks.tracking.tracker import Row, Status

if TYPE_CHECKING:
    import pandas as pd

ABOUT_TRIAL = ("step", "repeat", "seed")
NO_METRICS = ("epoch", "fold", "trial", "diverged", *ABOUT_TRIAL)
ENDS: dict[str, Status] = {"complete": "FINISHED", "pruned": "FINISHED", "diverged": "FAILED", "failed": "FAILED"}


@dataclass
class Curve:
    """Epochs of one run; of a nested one with its name, what was set for it, and how it ended (None: not yet)."""

    rows: list[Row]
    name: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    end: Status | None = None


def history_curves(history: pd.DataFrame) -> Iterator[Curve]:
    """One curve without folds, else one a fold, all but the last of which have ended."""
    if (history["fold"] < 0).all() if "fold" in history else True:
        yield Curve(_metric_rows(history))
        return
    folds = sorted(int(fold) for fold in history["fold"].unique())
    for fold in folds:
        rows = _metric_rows(history[history["fold"] == fold])
        yield Curve(rows, f"fold {fold + 1}", {"fold": fold}, end=None if fold == folds[-1] else "FINISHED")


def trial_curves(trials: pd.DataFrame) -> Iterator[Curve]:
    """One a trial, named by its number and step; settings are the columns with a dotted name."""
    for trial, rows in trials.groupby("trial", sort=False):
        about: dict[Any, Any] = rows.iloc[-1].to_dict()
        step, state = about.get("step"), about.get("state")
        if state is None and about.get("diverged"):
            state = "diverged"
        settings = [str(name) for name in trials if "." in str(name)]
        yield Curve(
            _metric_rows(rows.drop(columns=settings)),
            f"trial {trial}" + (f", {step}" if _is_there(step) else ""),
            {name: about[name] for name in (*ABOUT_TRIAL, *settings) if _is_there(about.get(name))},
            {"state": str(state)} if _is_there(state) else {},
            ENDS.get(str(state)),
        )


def _metric_rows(table: pd.DataFrame) -> list[Row]:
    """Numbers of each row, by epoch; what is not a number is left out."""
    numbers = table.select_dtypes("number").drop(columns=list(NO_METRICS), errors="ignore")
    steps = table["epoch"] if "epoch" in table else range(1, len(table) + 1)
    records = zip(numbers.to_dict("records"), steps, strict=True)
    return [{"step": int(step), "values": _finite(values)} for values, step in records]


def _finite(values: dict[Hashable, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items() if not math.isnan(value)}


def _is_there(value: object) -> bool:
    return value is not None and value == value  # noqa: PLR0124  NaN is not
