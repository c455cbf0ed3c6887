"""Trials of a search: train points on workers and record the results in Optuna studies.

Optuna stores the trials, proposes values and decides what to prune. Three things are ours. A point is identified by a
hash of its settings and data, so no point is trained twice, even across studies. One thread asks and tells, because
``study.optimize`` neither replaces a worker that died nor keeps the order of a grid. And a trial's user attributes
hold its history, so the study is enough to resume and to build the table.
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
from seg_pipeline.segmentation.search.ranking import DECAY, RATE, row_score, to_cell, trial_score
from seg_pipeline.segmentation.search.study import (
    exclusive_access,
    fail_stale_trials,
    fail_waiting_trials,
    finished_trials,
    open_study,
    record_heartbeat,
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
"""A trial fails when its worker has died this often; once may be chance (preemption, another process's memory)."""
POLL_SECONDS = 1.0
"""Interval at which a search checks the trials that it waits for."""
SEED_STEP = 1000
"""Difference between the seeds of two repeats."""


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
    """Data and settings shared by all trials of a search."""

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
    if multiprocessing.current_process().daemon:  # such as Dask's workers, which may not start other processes
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
    except OutOfMemory as error:  # also a TrainingFailed, but a lower learning rate would not prevent it
        return Result(rows, "failed", str(error))
    except TrainingFailed as error:
        return Result(rows, "diverged", str(error))
    except ValueError as error:  # settings that contradict each other
        return Result(rows, "failed", str(error))
    return Result(rows, "complete")


class _Running(NamedTuple):
    worker: TaskExecutor
    study: optuna.Study
    trial: Trial
    point: Point
    key: str


def search_id(config: TrainingConfig, data_hash: str) -> str:
    """Name of a search's studies: equal for equal data and settings, apart from the searched ones."""
    return f"{data_hash[:12]}-{base_hash(config, (RATE, DECAY))[:12]}"


class TrialRunner:
    """Trains points that are not in the study yet.

    Args:
        data_hash: ``manifest.table.data_hash`` of the manifest, passed in because computing it copies all masks.
        running: Optuna's ids of the trials that run here; updated in place.

    Attributes:
        finished: user attributes of every finished trial, by key.
        points: the points of this search, by key, in the order of the settings.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: TrialData,
        workers: Workers,
        storage: BaseStorage,
        grid: GridSettings,
        data_hash: str,
        running: set[int],
    ) -> None:
        self.config, self.data, self.workers, self.storage, self.settings = config, data, workers, storage, grid
        self.data_hash, self.running = data_hash, running
        self.search_id = search_id(config, self.data_hash)
        self.grid = open_study(f"grid-{self.search_id}", storage, pruner=optuna.pruners.NopPruner())
        self.finished = finished_trials(self.grid)
        self.points: dict[str, Point] = {}

    def config_of(self, point: Point) -> TrainingConfig:
        """Config of a point's training.

        Raises:
            ValueError: the point's values contradict each other.
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
            self.points.setdefault(key, point)
        self.run(self.grid, self._grid_trials([point for key, point in keys.items() if key not in self.finished]))

    def _grid_trials(self, points: list[Point]) -> Iterator[tuple[Trial, Point] | None]:
        names: dict[str, BaseDistribution] = dict.fromkeys((RATE, DECAY), FloatDistribution(0, 10))
        configured = {RATE: self.config.optimizer.learning_rate, DECAY: self.config.optimizer.weight_decay}
        remaining = {self.key_of(point): point for point in points}
        while True:
            started = None
            with exclusive_access(self.storage, self.grid):
                fail_stale_trials(self.storage, self.grid)
                self.finished |= finished_trials(self.grid)
                remaining = {key: point for key, point in remaining.items() if key not in self.finished}
                running = self.grid.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
                unclaimed = remaining.keys() - {trial.user_attrs.get("key") for trial in running}
                if not remaining or (unclaimed and self.out_of_time(self.settings.max_minutes)):
                    break
                if key := next((key for key in remaining if key in unclaimed), None):
                    fail_waiting_trials(self.grid)
                    self.grid.enqueue_trial(configured | remaining[key].values)
                    started = self.register(self.grid.ask(names), remaining[key]), remaining[key]
            yield started
        if remaining:
            log.warning("max_minutes reached: %d grid trials were not started", len(unclaimed))

    def register(self, trial: Trial, point: Point) -> Trial:
        """Record what a trial trains, and its first heartbeat; call under ``exclusive_access``."""
        self.running.add(trial._trial_id)
        record_heartbeat(self.storage, trial._trial_id)
        key, seed = self.key_of(point), self.config_of(point).seed
        attributes = {"key": key, "step": point.step, "repeat": point.repeat, "values": point.values, "seed": seed}
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        return trial

    def out_of_time(self, max_minutes: float | None) -> bool:
        """Whether the trials of this search have used ``max_minutes`` per worker."""
        seconds = sum(self.finished[key]["seconds"] for key in self.points if key in self.finished)
        return max_minutes is not None and seconds >= 60 * max_minutes * self.workers.size

    def run(self, study: optuna.Study, trials: Iterator[tuple[Trial, Point] | None]) -> None:
        """Keep all workers busy until the iterator ends. It is advanced only when a worker is free.

        It yields None while all remaining trials are running, here or in other searches: one that dies is restarted.
        """
        running: dict[Future, _Running] = {}
        deaths: Counter[str] = Counter()
        has_more = True
        while has_more or running:
            started: tuple[Trial, Point] | None = None
            while has_more and self.workers.idle:
                try:
                    started = next(trials)
                except StopIteration:
                    has_more = False
                    break
                if started is None:
                    break
                self._start(running, study, *started)
            if not running:
                time.sleep(POLL_SECONDS if has_more else 0)
                continue
            for future in wait(running, POLL_SECONDS if has_more else None, FIRST_COMPLETED).done:
                ended = running.pop(future)
                self._handle_end(running, deaths, ended, future)

    def _handle_end(
        self, running: dict[Future, _Running], deaths: Counter[str], ended: _Running, future: Future
    ) -> None:
        error = future.exception()
        self.workers.release(ended.worker, broken=error is not None)
        self.running.discard(ended.trial._trial_id)
        with exclusive_access(self.storage, ended.study):
            if ended.study._storage.get_trial(ended.trial._trial_id).state.is_finished():
                log.warning(
                    "another search restarted trial %s, because this one sent no heartbeat",
                    _format_values(ended.point.values),
                )
                return
            if error is None:
                self._finish(ended, future.result())
                return
            if not ended.worker.is_worker_death(error):
                raise ended.worker.original_error(error)
            deaths[ended.key] += 1
            log.warning("a worker died in trial %s", _format_values(ended.point.values))
            if deaths[ended.key] == MAX_DEATHS:
                self._finish(ended, Result([], "failed", f"its worker died {MAX_DEATHS} times"))
                return
            ended.study.tell(ended.trial, state=TrialState.FAIL)  # retry as a new trial: this one has reported epochs
            ended.study.enqueue_trial(ended.trial.params)
            trial = self.register(ended.study.ask(ended.trial.distributions), ended.point)
        self._start(running, ended.study, trial, ended.point)

    def _start(self, running: dict[Future, _Running], study: optuna.Study, trial: Trial, point: Point) -> None:
        key, config = self.key_of(point), self.config_of(point)
        self.points.setdefault(key, point)
        worker = self.workers.acquire()
        running[worker.submit(train_trial, trial, config, self.data)] = _Running(worker, study, trial, point, key)

    def _finish(self, ended: _Running, result: Result) -> None:
        rows, state, reason = result
        score = self.score_of(rows) if state == "complete" else None
        if state == "complete" and score is None:
            state, reason = "failed", "no epoch has a validation score"
        outcome = reason or state + ("" if score is None else f", score {score:.4f}")
        log.info("%s: %s", _format_values(ended.point.values), outcome)
        seconds = sum(row["seconds"] for row in rows)
        for name, value in {"rows": rows, "state": state, "reason": reason, "seconds": seconds}.items():
            ended.trial.set_user_attr(name, value)
        # Diverged and failed trials count as pruned for Optuna, so that its samplers avoid their values.
        ended.study.tell(ended.trial, score, state=TrialState.COMPLETE if state == "complete" else TrialState.PRUNED)
        self.finished[ended.key] = ended.trial.user_attrs

    def score_of(self, rows: list[dict]) -> float | None:
        return trial_score(pd.DataFrame(rows, columns=HISTORY), self.settings)

    def table(self) -> pd.DataFrame:
        """One row per epoch of every finished trial of this search, in the order of the settings.

        The order in which workers finished does not matter, so a grid gives the same table for any number of workers.
        """
        finished = [(self.finished[key], point) for key, point in self.points.items() if key in self.finished]
        return trial_table([record | {"step": point.step} for record, point in finished], self.config)


def trial_table(records: list[dict], config: TrainingConfig) -> pd.DataFrame:
    """One row per epoch of each trial; trials are numbered from 1 in the given order.

    Columns: trial, step, repeat, seed, state, reason, one per setting that any trial searched (the config's value for
    trials that did not), and those of a history. The epoch in which a trial diverged or failed has no scores.
    """
    names = list(dict.fromkeys(name for record in records for name in record["values"]))
    base = {name: config.value(name) for name in names}
    rows: list[dict] = []
    for number, record in enumerate(records, start=1):
        attributes = {"trial": number, **{name: record[name] for name in ("step", "repeat", "seed", "state", "reason")}}
        history = list(record["rows"])
        if record["state"] in ("diverged", "failed"):
            history.append({"epoch": len(history) + 1})
        attributes |= {name: to_cell(value) for name, value in (base | record["values"]).items()}
        rows += [attributes | row for row in history]
    columns = ["trial", "step", "repeat", "seed", "state", "reason", *names]
    return pd.DataFrame(rows, columns=[*columns, *HISTORY]).astype(dict.fromkeys(HISTORY[1:], "float64"))


def _format_values(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.rpartition('.')[2]} {value:.3g}" if isinstance(value, float) else f"{name.rpartition('.')[2]} {value}"
        for name, value in values.items()
    )
