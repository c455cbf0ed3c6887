"""Trials of a search: train points on workers and record the results in Optuna studies.

Optuna keeps the trials, proposes values and decides what to prune. Three things are ours. A point is identified by a
hash of its settings and the data, so no point is trained twice, in whichever study it was trained first. The loop asks
and tells in one thread, because ``study.optimize`` neither replaces a worker that died nor keeps the order of a grid.
And a trial's user attributes hold its history, so the study alone is enough to resume and to build the table.
"""

import hashlib
import json
import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
import pandas as pd
import torch
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState

from seg_pipeline.segmentation.parallel.executors import TaskExecutor
from seg_pipeline.segmentation.search.ranking import DECAY, RATE, cell, row_score, trial_score
from seg_pipeline.segmentation.search.study import (
    alone,
    drop_waiting,
    fail_lost,
    finished_trials,
    open_study,
    show_life,
)
from seg_pipeline.segmentation.search.workers import Workers
from seg_pipeline.segmentation.settings.search import GridSettings, Rule
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig, base_hash
from seg_pipeline.segmentation.training.processes import OutOfMemory, TrainingFailed
from seg_pipeline.segmentation.training.run import train_one_model
from seg_pipeline.segmentation.training.state import HISTORY

log = logging.getLogger(__name__)

MAX_DEATHS = 3
"""A trial whose worker died this often has failed; once may be chance (preemption, another process's memory)."""
SECONDS_BETWEEN_LOOKS = 1.0
"""While trials that this search waits for run."""
SEED_STEP = 1000
"""Between the seeds of two repeats."""


@dataclass(frozen=True)
class Point:
    """Settings to train with; ``values`` by dotted name, such as ``optimizer.learning_rate``."""

    step: str
    values: dict[str, Any]
    repeat: int = 0


class Result(NamedTuple):
    """How a trial ended, with one history row per epoch."""

    rows: list[dict]
    state: Literal["complete", "pruned", "diverged", "failed"]
    reason: str = ""


@dataclass(frozen=True)
class TrialData:
    """What all trials of a search share."""

    manifest: pd.DataFrame
    compute: ComputeSettings
    cache_folder: Path | None
    choose_by: Rule
    threads: int | None = None


def train_trial(trial: Trial, config: TrainingConfig, data: TrialData) -> Result:
    """Train one point until it is complete, pruned or failed. This is the function that runs on a worker."""
    if data.threads:
        torch.set_num_threads(data.threads)
    compute = data.compute
    if multiprocessing.current_process().daemon:  # as Dask's workers are, which may not start others
        compute = replace(compute, num_workers=0)
    rows: list[dict] = []
    try:
        for state in train_one_model(data.manifest, config, compute, None, data.cache_folder):
            for row in state["history"][len(rows) :]:
                rows.append(row)
                score = row_score(row, data.choose_by)
                if score is not None:
                    trial.report(score, row["epoch"])
                if trial.should_prune():
                    return Result(rows, "pruned")
    except OutOfMemory as error:  # also a TrainingFailed, but not one that a lower learning rate prevents
        return Result(rows, "failed", str(error))
    except TrainingFailed as error:
        return Result(rows, "diverged", str(error))
    except ValueError as error:  # settings that do not go together
        return Result(rows, "failed", str(error))
    return Result(rows, "complete")


class _Running(NamedTuple):
    worker: TaskExecutor
    study: optuna.Study
    trial: Trial
    point: Point
    key: str


def identity_of(config: TrainingConfig, data: str) -> str:
    """Name of the studies of a search: equal for equal data and settings, except the searched ones."""
    return f"{data[:12]}-{base_hash(config, (RATE, DECAY))[:12]}"


class TrialRunner:
    """Trains points that are not in the study yet.

    Args:
        hashed: ``manifest.table.data_hash`` of the data's manifest, which takes a copy of all masks.
        running: Optuna's ids of the trials that run here, kept up to date.

    Attributes:
        finished: user attributes of every finished trial, by key.
        wanted: the points of this search, by key, in the order of the settings.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: TrialData,
        workers: Workers,
        storage: BaseStorage,
        grid: GridSettings,
        hashed: str,
        running: set[int],
    ) -> None:
        self.config, self.data, self.workers, self.storage, self.settings = config, data, workers, storage, grid
        self.data_hash, self.running = hashed, running
        self.identity = identity_of(config, self.data_hash)
        self.grid = open_study(f"grid-{self.identity}", storage, pruner=optuna.pruners.NopPruner())
        self.finished = finished_trials(self.grid)
        self.wanted: dict[str, Point] = {}

    def config_of(self, point: Point) -> TrainingConfig:
        """Config of a point's training.

        Raises:
            ValueError: the point's values do not go together.
        """
        length = {
            "fit.epochs": self.settings.epochs,
            "fit.validate_every": self.settings.validate_every,
            "fit.max_minutes": None,
            "fit.patience": None,
        }
        return self.config.changed({**length, **point.values, "seed": self.config.seed + SEED_STEP * point.repeat})

    def key_of(self, point: Point) -> str:
        """Hash of a training's settings and data: equal for equal trainings."""
        text = json.dumps([self.config_of(point).to_dict(), self.data_hash], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def run_grid(self, points: Iterable[Point]) -> None:
        """Train the given points, in order, without pruning."""
        keys = {self.key_of(point): point for point in points}
        for key, point in keys.items():
            self.wanted.setdefault(key, point)
        self.run(self.grid, self._grid_trials([point for key, point in keys.items() if key not in self.finished]))

    def _grid_trials(self, points: list[Point]) -> Iterator[tuple[Trial, Point] | None]:
        names: dict[str, BaseDistribution] = dict.fromkeys((RATE, DECAY), FloatDistribution(0, 10))
        configured = {RATE: self.config.optimizer.learning_rate, DECAY: self.config.optimizer.weight_decay}
        left = {self.key_of(point): point for point in points}
        while True:
            begun = None
            with alone(self.storage, self.grid):
                fail_lost(self.storage, self.grid)
                self.finished |= finished_trials(self.grid)
                left = {key: point for key, point in left.items() if key not in self.finished}
                run = self.grid.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
                free = left.keys() - {one.user_attrs.get("key") for one in run}
                if not left or (free and self.out_of_time(self.settings.max_minutes)):
                    break
                if key := next((key for key in left if key in free), None):
                    drop_waiting(self.grid)
                    self.grid.enqueue_trial(configured | left[key].values)
                    begun = self.claim(self.grid.ask(names), left[key]), left[key]
            yield begun
        if left:
            log.warning("max_minutes reached: %d grid trials were not started", len(free))

    def claim(self, trial: Trial, point: Point) -> Trial:
        """Record what a trial trains, and that it is alive; to be called ``alone``."""
        self.running.add(trial._trial_id)
        show_life(self.storage, trial._trial_id)
        key, seed = self.key_of(point), self.config_of(point).seed
        about = {"key": key, "step": point.step, "repeat": point.repeat, "values": point.values, "seed": seed}
        for name, value in about.items():
            trial.set_user_attr(name, value)
        return trial

    def out_of_time(self, max_minutes: float | None) -> bool:
        """Whether the trials of this search have used up ``max_minutes`` per worker."""
        spent = sum(self.finished[key]["seconds"] for key in self.wanted if key in self.finished)
        return max_minutes is not None and spent >= 60 * max_minutes * self.workers.size

    def run(self, study: optuna.Study, trials: Iterator[tuple[Trial, Point] | None]) -> None:
        """Keep all workers busy until the iterator ends. It is advanced only when a worker is free.

        It gives None while all trials that are left run, here or in other searches: one that dies is begun again.
        """
        running: dict[Future, _Running] = {}
        deaths: Counter[str] = Counter()
        more = True
        while more or running:
            begun: tuple[Trial, Point] | None = None
            while more and self.workers.idle:
                try:
                    begun = next(trials)
                except StopIteration:
                    more = False
                    break
                if begun is None:
                    break
                self._begin(running, study, *begun)
            if not running:
                time.sleep(SECONDS_BETWEEN_LOOKS if more else 0)
                continue
            for future in wait(running, SECONDS_BETWEEN_LOOKS if more else None, FIRST_COMPLETED).done:
                one = running.pop(future)
                self._end(running, deaths, one, future)

    def _end(self, running: dict[Future, _Running], deaths: Counter[str], one: _Running, future: Future) -> None:
        error = future.exception()
        self.workers.give_back(one.worker, broken=error is not None)
        self.running.discard(one.trial._trial_id)
        with alone(self.storage, one.study):
            if one.study._storage.get_trial(one.trial._trial_id).state.is_finished():
                log.warning("another search has begun trial %s again, as this one was silent", _words(one.point.values))
                return
            if error is None:
                self._finish(one, future.result())
                return
            if not one.worker.died(error):
                raise one.worker.cause_of(error)
            deaths[one.key] += 1
            log.warning("a worker died in trial %s", _words(one.point.values))
            if deaths[one.key] == MAX_DEATHS:
                self._finish(one, Result([], "failed", f"its worker died {MAX_DEATHS} times"))
                return
            one.study.tell(one.trial, state=TrialState.FAIL)  # a new trial: this one's epochs are reported already
            one.study.enqueue_trial(one.trial.params)
            trial = self.claim(one.study.ask(one.trial.distributions), one.point)
        self._begin(running, one.study, trial, one.point)

    def _begin(self, running: dict[Future, _Running], study: optuna.Study, trial: Trial, point: Point) -> None:
        key, config = self.key_of(point), self.config_of(point)
        self.wanted.setdefault(key, point)
        worker = self.workers.take()
        running[worker.submit(train_trial, trial, config, self.data)] = _Running(worker, study, trial, point, key)

    def _finish(self, one: _Running, result: Result) -> None:
        rows, state, reason = result
        score = self.score_of(rows) if state == "complete" else None
        if state == "complete" and score is None:
            state, reason = "failed", "no epoch has a validation score"
        outcome = reason or state + ("" if score is None else f", score {score:.4f}")
        log.info("%s: %s", _words(one.point.values), outcome)
        seconds = sum(row["seconds"] for row in rows)
        for name, value in {"rows": rows, "state": state, "reason": reason, "seconds": seconds}.items():
            one.trial.set_user_attr(name, value)
        # Diverged and failed trials are pruned ones for Optuna, so that its samplers avoid their values.
        one.study.tell(one.trial, score, state=TrialState.COMPLETE if state == "complete" else TrialState.PRUNED)
        self.finished[one.key] = one.trial.user_attrs

    def score_of(self, rows: list[dict]) -> float | None:
        return trial_score(pd.DataFrame(rows, columns=HISTORY), self.settings)

    def table(self) -> pd.DataFrame:
        """One row per epoch of every finished trial of this search, in the order of the settings.

        The order in which workers finished does not matter, so a grid gives the same table with any number of them.
        """
        found = [(self.finished[key], point) for key, point in self.wanted.items() if key in self.finished]
        return trial_table([record | {"step": point.step} for record, point in found], self.config)


def trial_table(records: list[dict], config: TrainingConfig) -> pd.DataFrame:
    """One row per epoch of each trial; trials are numbered from 1 in the given order.

    Columns: trial, step, repeat, seed, state, reason, one per setting that any trial searched (the config's value for
    trials that did not), and those of a history. The epoch in which a trial diverged or failed has no scores.
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
