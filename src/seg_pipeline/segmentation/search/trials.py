"""Runs points of a search on a pool, and keeps what comes of them in Optuna studies: the only one who writes there."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, NamedTuple

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from seg_pipeline.segmentation.manifest.table import data_hash
from seg_pipeline.segmentation.search.best_point import DECAY, RATE, cell, row_score, trial_score
from seg_pipeline.segmentation.search.pool import Pool, Worker, died
from seg_pipeline.segmentation.search.study import ended, open_study
from seg_pipeline.segmentation.search.trial import End, Event, Job, Place, trial_key
from seg_pipeline.segmentation.settings.search import GridSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig, base_hash
from seg_pipeline.segmentation.training.state import HISTORY

log = logging.getLogger(__name__)

MOST_DEATHS = 3
"""Of a trial's workers, until the search goes on without it."""
SEEDS_APART = 1000
STATES = {"complete": TrialState.COMPLETE}
"""In Optuna's terms; what diverged or cannot be is a pruned trial, so that its samplers keep away from there."""


@dataclass(frozen=True)
class Point:
    """A training to do."""

    step: str
    values: dict[str, Any]
    """By dotted name in the config."""
    repeat: int = 0


class _Running(NamedTuple):
    worker: Worker
    study: optuna.Study
    trial: optuna.trial.Trial
    point: Point
    key: str
    rows: list[dict]


class Coordinator:
    """Attributes: done: what has ended, by key, each as the trial's user attributes."""

    def __init__(
        self, config: TrainingConfig, place: Place, pool: Pool, storage: BaseStorage, grid: GridSettings
    ) -> None:
        self.config, self.place, self.pool, self.storage, self.settings = config, place, pool, storage, grid
        self.data_hash = data_hash(place.manifest)
        self.identity = f"{self.data_hash[:12]}-{base_hash(config, (RATE, DECAY))[:12]}"
        self.grid = open_study(f"grid-{self.identity}", storage, pruner=optuna.pruners.NopPruner())
        self.done = ended(self.grid)
        self.wanted: dict[str, Point] = {}
        for file in place.folder.glob("*.pt*"):
            if file.name.partition(".")[0] in self.done or not file.name.endswith(".pt"):
                file.unlink()  # of trials that have ended, and drafts

    def config_of(self, point: Point) -> TrainingConfig:
        """Raises ValueError where its values do not go together."""
        length = {
            "fit.epochs": self.settings.epochs,
            "fit.validate_every": self.settings.validate_every,
            "fit.max_minutes": None,
            "fit.patience": None,
        }
        return self.config.changed({**length, **point.values, "seed": self.config.seed + SEEDS_APART * point.repeat})

    def key_of(self, point: Point) -> str:
        return trial_key(self.config_of(point), self.data_hash)

    def run(self, points: Iterable[Point]) -> None:
        """Trains the points of a grid that are not done."""
        keys = {self.key_of(point): point for point in points}
        for key, point in keys.items():
            self.wanted.setdefault(key, point)
        names: dict[str, BaseDistribution] = dict.fromkeys((RATE, DECAY), FloatDistribution(0, 10))
        tried: set[str] = set()

        def begin() -> tuple[optuna.trial.Trial, Point] | None:
            left = [key for key in keys if key not in self.done and key not in tried]
            if not left:
                return None
            if self.is_over(self.settings.max_minutes):
                log.warning("max_minutes are over: %d trials of the grid are left out", len(left))
                tried.update(left)
                return None
            tried.add(left[0])
            point = keys[left[0]]
            base = {RATE: self.config.optimizer.learning_rate, DECAY: self.config.optimizer.weight_decay}
            self.grid.enqueue_trial(base | point.values)
            return self.grid.ask(names), point

        self.conduct(self.grid, begin, again=tried.discard)

    def is_over(self, max_minutes: float | None) -> bool:
        """Whether the trials of this search have taken so many minutes of each worker."""
        spent = sum(self.done[key]["seconds"] for key in self.wanted if key in self.done)
        return max_minutes is not None and spent >= 60 * max_minutes * self.pool.size

    def conduct(
        self,
        study: optuna.Study,
        begin: Callable[[], tuple[optuna.trial.Trial, Point] | None],
        *,
        again: Callable[[str], object],
    ) -> None:
        """Keeps workers busy until ``begin`` gives no more; ``again`` takes the keys of trials whose workers died."""
        busy: dict[Future, _Running] = {}
        deaths: Counter[str] = Counter()
        while True:
            while (worker := self.pool.take()) is not None:
                if (begun := begin()) is None:
                    self.pool.give_back(worker)
                    break
                running = self._note(study, worker, *begun)
                busy[worker.submit("begin", Job(running.key, self.config_of(running.point).to_dict()))] = running
            if not busy:
                return
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                running = busy.pop(future)
                error = future.exception()
                if error is None:
                    if (following := self._hear(running, future.result())) is not None:
                        busy[following] = running
                    continue
                if not died(error):
                    raise error
                self.pool.bury(running.worker)
                deaths[running.key] += 1
                log.warning("a worker died in trial %s", _words(running.point.values))
                if deaths[running.key] < MOST_DEATHS:
                    study.tell(running.trial, state=TrialState.FAIL)
                    again(running.key)
                else:
                    self._finish(running, "failed", f"its worker died {MOST_DEATHS} times")

    def _note(self, study: optuna.Study, worker: Worker, trial: optuna.trial.Trial, point: Point) -> _Running:
        key = self.key_of(point)
        about = {
            "key": key,
            "step": point.step,
            "repeat": point.repeat,
            "values": point.values,
            "seed": self.config_of(point).seed,
        }
        for name, value in about.items():
            trial.set_user_attr(name, value)
        return _Running(worker, study, trial, point, key, [])

    def _hear(self, running: _Running, event: Event) -> Future | None:
        """Takes in a row or the end; the future of the next event where the trial goes on."""
        if event.row is not None:
            running.rows.append(event.row)
            score = row_score(event.row, self.settings.choose_by)
            if score is not None:
                running.trial.report(score, event.row["epoch"])
            if not running.trial.should_prune():
                return running.worker.submit("advance")
            running.worker.submit("stop").result()
        self.pool.give_back(running.worker)
        self._finish(running, event.end or "pruned", event.reason)
        return None

    def _finish(self, running: _Running, end: End, reason: str) -> None:
        score = self.score_of({"rows": running.rows}) if end == "complete" else None
        if end == "complete" and score is None:
            end, reason = "failed", "no epoch has a validation score"
        log.info(
            "%s: %s", _words(running.point.values), reason or end + ("" if score is None else f", score {score:.4f}")
        )
        finished = {
            "rows": running.rows,
            "state": end,
            "reason": reason,
            "seconds": sum(row["seconds"] for row in running.rows),
        }
        for name, value in finished.items():
            running.trial.set_user_attr(name, value)
        running.study.tell(running.trial, score, state=STATES.get(end, TrialState.PRUNED))
        self.done[running.key] = running.trial.user_attrs
        self.place.checkpoint(running.key).unlink(missing_ok=True)

    def score_of(self, record: dict) -> float | None:
        return trial_score(pd.DataFrame(record["rows"], columns=HISTORY), self.settings)

    def table(self) -> pd.DataFrame:
        """A row an epoch of all that was wanted and has ended, in the order of its settings, however it came about."""
        records = [self.done[key] | {"step": point.step} for key, point in self.wanted.items() if key in self.done]
        return trial_table(records, self.config)


def trial_table(records: list[dict], config: TrainingConfig) -> pd.DataFrame:
    """A row an epoch of each trial, which are numbered from 1 in the order given.

    Columns: trial, step, repeat, seed, state, reason, one a setting that any trial searched (where a trial did not,
    the config's), and those of a history. The epoch in which a trial diverged or failed has a row without scores.
    """
    names = list(dict.fromkeys(name for record in records for name in record["values"]))
    base = {name: config.value(name) for name in names}
    rows: list[dict] = []
    for number, record in enumerate(records, start=1):
        about = {"trial": number, **{name: record[name] for name in ("step", "repeat", "seed", "state", "reason")}}
        history = list(record["rows"])
        if record["state"] in ("diverged", "failed"):
            history.append({"epoch": len(history) + 1})
        about |= {name: cell(value) for name, value in (base | record["values"]).items()}
        rows += [about | row for row in history]
    head = ["trial", "step", "repeat", "seed", "state", "reason", *names]
    return pd.DataFrame(rows, columns=[*head, *HISTORY]).astype(dict.fromkeys(HISTORY[1:], "float64"))


def _words(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.rpartition('.')[2]} {value:.3g}" if isinstance(value, float) else f"{name.rpartition('.')[2]} {value}"
        for name, value in values.items()
    )
