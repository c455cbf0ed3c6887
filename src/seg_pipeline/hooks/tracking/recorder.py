"""Turn tables of epochs into metric curves, and send a run and its nested runs to all stores."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seg_pipeline.hooks.tracking.metrics import EPOCH_METRICS
from seg_pipeline.hooks.tracking.outbox import Outbox
from seg_pipeline.hooks.tracking.tracker import Row, Run, Status

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
    """One curve, or one per fold with cross-validation; all folds except the last have ended."""
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
        last: dict[Any, Any] = rows.iloc[-1].dropna().to_dict()
        step, state = last.get("step"), last.get("state")
        if state is None and last.get("diverged"):
            state = "diverged"
        settings = [str(name) for name in trials if "." in str(name)]
        names = (*TRIAL_COLUMNS, *settings)
        yield Curve(
            _metric_rows(rows.drop(columns=settings)),
            f"trial {trial}" + (f", {step}" if step else ""),
            {name if name in TRIAL_COLUMNS else f"training.{name}": last[name] for name in names if name in last},
            {"state": str(state)} if state else {},
            STATUSES.get(str(state)),
        )


def _metric_rows(table: pd.DataFrame) -> list[Row]:
    """The numeric columns of each row as metrics at that row's epoch; NaN is left out."""
    numbers = table.select_dtypes("number").drop(columns=list(NOT_METRICS), errors="ignore")
    numbers = numbers.rename(columns=EPOCH_METRICS)
    steps = table["epoch"] if "epoch" in table else range(1, len(table) + 1)
    records = zip(numbers.to_dict("records"), steps, strict=True)
    return [
        {"step": int(step), "values": {str(name): float(value) for name, value in row.items() if not math.isnan(value)}}
        for row, step in records
    ]


class RunRecorder:
    """Log a run to every outbox; rows that are already logged are not sent again.

    Args:
        logged: number of rows per curve that the run logged before it was resumed; updated in place.
    """

    def __init__(self, run: Run, outboxes: list[Outbox], logged: dict[str, int]) -> None:
        self.run, self._outboxes, self.logged = run, outboxes, logged
        self._nested: dict[str, Run] = {}
        self._ended: set[str] = set()
        self._send("start", run=asdict(run))
        for outbox in outboxes:
            outbox.send_leftovers()

    def where(self) -> str:
        """One line per store: the command that shows the run, or the journal that holds it."""
        return "\n".join(outbox.where(self.run) for outbox in self._outboxes)

    def log(self, method: str, **arguments: Any) -> None:
        """Call a method of ``Tracker`` for this run with JSON values; skipped if ``values`` is empty."""
        if arguments.get("values", True):
            self._send(method, run=self.run.key, **arguments)

    def scores(self, values: dict[str, float]) -> None:
        self._metrics(self.run.key, [{"step": 0, "values": values}])

    def curves(self, curves: Iterable[Curve]) -> None:
        """Log the rows that are new since the last call. A curve with a name becomes a nested run."""
        for curve in curves:
            new = curve.rows[self.logged.get(curve.name, 0) :]
            key = self._key_of(curve) if curve.name else self.run.key
            if new:
                self._metrics(key, new)
                self.logged[curve.name] = len(curve.rows)
            if curve.name and curve.end and curve.name not in self._ended:
                self._end(curve.name, curve.end, curve.tags)

    def image(self, path: str, name: str, step: int) -> None:
        self._send("image", run=self.run.key, path=path, name=name, step=step, at=now())

    def rename(self, name: str) -> None:
        """Change the run's name in every store, if it differs."""
        if name != self.run.name:
            self.run = replace(self.run, name=name)
            self._send("rename", run=self.run.key, name=name)

    def finish(self, status: Status) -> list[Path]:
        """End the run and its open nested runs; returns the journals of calls that could not be sent."""
        for name in [name for name in self._nested if name not in self._ended]:
            self._end(name, status, {})
        self._send("finish", run=self.run.key, status=status)
        return [file for outbox in self._outboxes if (file := outbox.close())]

    def _key_of(self, curve: Curve) -> str:
        if curve.name not in self._nested:
            key = f"{self.run.key}-{curve.name.replace(', ', '-').replace(' ', '-')}"
            run = replace(self.run, key=key, name=curve.name, parent=self.run.key, begun=now())
            self._nested[curve.name] = run
            self._send("start", run=asdict(run))
            self._send("params", run=key, values=curve.params)
        return self._nested[curve.name].key

    def _end(self, name: str, status: Status, tags: dict[str, str]) -> None:
        self._ended.add(name)
        if tags:
            self._send("tags", run=self._nested[name].key, values=tags)
        self._send("finish", run=self._nested[name].key, status=status)

    def _metrics(self, key: str, rows: list[Any]) -> None:
        self._send("metrics", run=key, rows=rows, at=now())

    def _send(self, method: str, **arguments: Any) -> None:
        for outbox in self._outboxes:
            outbox.send(method, **arguments)


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
