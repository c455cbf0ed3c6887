"""Converts tables of epochs into metric curves, one per run and nested run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seg_pipeline.hooks.tracking.tracker import Row, Status

if TYPE_CHECKING:
    import pandas as pd

TRIAL_COLUMNS = ("step", "repeat", "seed")
NOT_METRICS = ("epoch", "fold", "trial", "diverged", *TRIAL_COLUMNS)
STATUSES: dict[str, Status] = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "diverged": "FAILED",
    "failed": "FAILED",
}


@dataclass
class Curve:
    """Metric rows of one run. A nested run also has a name, parameters, tags and, once it has ended, a status."""

    rows: list[Row]
    name: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    end: Status | None = None


def history_curves(history: pd.DataFrame) -> Iterator[Curve]:
    """One curve, or with cross-validation one per fold; all folds but the last have ended."""
    if (history["fold"] < 0).all() if "fold" in history else True:
        yield Curve(_metric_rows(history))
        return
    folds = sorted(int(fold) for fold in history["fold"].unique())
    for fold in folds:
        rows = _metric_rows(history[history["fold"] == fold])
        yield Curve(rows, f"fold {fold + 1}", {"fold": fold}, end=None if fold == folds[-1] else "FINISHED")


def trial_curves(trials: pd.DataFrame) -> Iterator[Curve]:
    """One curve per trial, named after its number and step. Columns with a dot in their name are its settings."""
    for trial, rows in trials.groupby("trial", sort=False):
        about: dict[Any, Any] = rows.iloc[-1].dropna().to_dict()
        step, state = about.get("step"), about.get("state")
        if state is None and about.get("diverged"):
            state = "diverged"
        settings = [str(name) for name in trials if "." in str(name)]
        yield Curve(
            _metric_rows(rows.drop(columns=settings)),
            f"trial {trial}" + (f", {step}" if step else ""),
            {name: about[name] for name in (*TRIAL_COLUMNS, *settings) if name in about},
            {"state": str(state)} if state else {},
            STATUSES.get(str(state)),
        )


def _metric_rows(table: pd.DataFrame) -> list[Row]:
    """The numeric columns of each row as metrics at that row's epoch; NaN is left out."""
    numbers = table.select_dtypes("number").drop(columns=list(NOT_METRICS), errors="ignore")
    steps = table["epoch"] if "epoch" in table else range(1, len(table) + 1)
    records = zip(numbers.to_dict("records"), steps, strict=True)
    return [
        {"step": int(step), "values": {str(name): float(value) for name, value in row.items() if not math.isnan(value)}}
        for row, step in records
    ]
