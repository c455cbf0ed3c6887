"""Optuna's sampler over any settings of a config, with pruning by the rows that training yields."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from seg_pipeline.segmentation.search.best_point import best_point, plain, points, searched_names
from seg_pipeline.segmentation.search.coordinator import Coordinator, Point
from seg_pipeline.segmentation.search.study import ended, open_study
from seg_pipeline.segmentation.settings.search import GridSettings, Range, TpeSettings

log = logging.getLogger(__name__)

STEP = "tpe"


def search_space(coordinator: Coordinator, settings: TpeSettings) -> None:
    """Trials until there are as many as asked for or their time is over; then repeats of the best, if any.

    The first one is the best point of the grid, with the config's own values of the space. A proposal depends on the
    seed, its number and the trials that have ended: in one process a search that was killed makes the same ones.
    """
    text = json.dumps([sorted((name, str(one)) for name, one in settings.space.items()), coordinator.settings.epochs])
    name = f"tpe-{coordinator.identity}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    study = open_study(name, coordinator.storage, pruner=_pruner(settings, coordinator.settings))
    proposals = _Proposals(coordinator, study, settings)
    coordinator.conduct(study, proposals.next, again=proposals.again)
    _repeat_best(coordinator)


class _Proposals:
    def __init__(self, coordinator: Coordinator, study: optuna.Study, settings: TpeSettings) -> None:
        self.coordinator, self.study, self.settings = coordinator, study, settings
        self.fixed = _grid_best(coordinator)
        self.space = {name: _distribution(one) for name, one in settings.space.items()}
        self.known: dict[str, Point] = {}
        self.undone: deque[str] = deque()
        for trial in study.get_trials(deepcopy=False):
            about = trial.user_attrs
            if "values" in about and about["key"] not in self.known:
                self.known[about["key"]] = Point(STEP, about["values"])
        coordinator.done |= ended(study)
        self.undone += [key for key in self.known if key not in coordinator.done]
        for key, point in self.known.items():
            coordinator.wanted.setdefault(key, point)

    def again(self, key: str) -> None:
        self.undone.append(key)

    def next(self) -> tuple[optuna.trial.Trial, Point] | None:
        while True:
            if self.coordinator.is_over(self.settings.max_minutes) or not (self.undone or self._may_propose()):
                return None
            trial = self._propose()
            point = Point(STEP, self.fixed | {name: self._value(name, trial.params[name]) for name in self.space})
            try:
                key = self.coordinator.key_of(point)
            except ValueError as error:
                log.warning("values that do not go together: %s", error)
                trial.set_user_attr("reason", str(error))
                self.study.tell(trial, state=TrialState.PRUNED)
                continue
            if (same := self.coordinator.done.get(key)) is None:
                self.known.setdefault(key, point)
                self.coordinator.wanted.setdefault(key, point)
                return trial, point
            self._tell_again(trial, same, key, point)

    def _may_propose(self) -> bool:
        return len(self.study.get_trials(deepcopy=False, states=_PROPOSED)) < self.settings.trials

    def _propose(self) -> optuna.trial.Trial:
        number = len(self.study.get_trials(deepcopy=False, states=_PROPOSED))
        seed = int(hashlib.sha256(f"{self.coordinator.config.seed} {number}".encode()).hexdigest()[:8], 16)
        self.study.sampler = TPESampler(seed=seed, n_startup_trials=self.settings.startup_trials)
        if self.undone:
            values = self.known[self.undone.popleft()].values
            self.study.enqueue_trial({name: self._label(values[name]) for name in self.space})
        elif number == 0:
            self.study.enqueue_trial(self._first())
        return self.study.ask(self.space)

    def _first(self) -> dict[str, Any]:
        """The config's values with those of the grid, where the space has them."""
        mine = self.coordinator.config.changed(self.fixed)
        values = {name: self._label(mine.value(name)) for name in self.space}
        return {name: value for name, value in values.items() if _contains(self.space[name], value)}

    def _tell_again(self, trial: optuna.trial.Trial, same: dict, key: str, point: Point) -> None:
        """A point that has been trained already, by the grid or by an earlier proposal: its result counts again."""
        self.coordinator.wanted.setdefault(key, point)
        scored = same["state"] == "complete"
        score = self.coordinator.score_of(same) if scored else None
        self.study.tell(trial, score, state=TrialState.COMPLETE if scored else TrialState.PRUNED)

    def _label(self, value: Any) -> Any:
        return json.dumps(value) if isinstance(value, list | tuple | dict) else value

    def _value(self, name: str, label: Any) -> Any:
        choices = self.settings.space[name]
        if isinstance(choices, Range):
            return label
        return next(one for one in choices if self._label(one) == label)


_PROPOSED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


def _grid_best(coordinator: Coordinator) -> dict[str, Any]:
    trials = coordinator.table()
    best = best_point(points(trials, coordinator.settings))
    return {name: float(best[name]) for name in searched_names(trials)}


def _repeat_best(coordinator: Coordinator) -> None:
    """The grid's points have several seeds each; the best proposal gets as many before it is compared with them."""
    trials = coordinator.table()
    of_tpe = trials[trials["step"] == STEP]
    if coordinator.settings.repeats < 2 or of_tpe.empty:
        return
    best = best_point(points(of_tpe, coordinator.settings))
    values = {name: plain(best[name]) for name in searched_names(trials)}
    coordinator.run([Point(STEP, values, repeat) for repeat in range(coordinator.settings.repeats)])


def _distribution(one: Range | list[Any]) -> BaseDistribution:
    if not isinstance(one, Range):
        labels = [json.dumps(choice) if isinstance(choice, list | dict) else choice for choice in one]
        return CategoricalDistribution(labels)
    if one.whole:
        return IntDistribution(int(one.low), int(one.high), step=int(one.step or 1))
    return FloatDistribution(one.low, one.high, log=one.log, step=one.step)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (TypeError, ValueError):
        return False


def _pruner(settings: TpeSettings, grid: GridSettings) -> BasePruner:
    if settings.pruner == "none":
        return NopPruner()
    if settings.pruner == "hyperband":
        return HyperbandPruner(
            min_resource=max(1, settings.warmup_epochs), max_resource=grid.epochs, reduction_factor=3
        )
    return MedianPruner(n_startup_trials=settings.startup_trials, n_warmup_steps=settings.warmup_epochs)
