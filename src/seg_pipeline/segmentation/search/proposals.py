"""Points that Optuna proposes in a search space of arbitrary settings, with pruning."""

import hashlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.trial import Trial, TrialState

from seg_pipeline.segmentation.search.ranking import best_point, from_cell, points, searched_names
from seg_pipeline.segmentation.search.study import exclusive_access, fail_stale_trials, finished_trials, open_study
from seg_pipeline.segmentation.search.trials import Point, TrialRunner
from seg_pipeline.segmentation.settings.search import GridSettings, Range, TpeSettings

log = logging.getLogger(__name__)

STEP = "tpe"
_PROPOSED_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


def search_space(runner: TrialRunner, settings: TpeSettings) -> None:
    """Train proposals until there are ``settings.trials`` or the time is up, then repeat the best one.

    The first proposal is the best point of the grid with the config's values for the rest of the space.
    """
    fixed = _grid_best(runner)
    identity = json.dumps(
        [sorted((name, str(values)) for name, values in settings.space.items()), runner.settings.epochs]
    )
    name = f"tpe-{runner.search_id}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    study = open_study(name, runner.storage, pruner=_pruner(settings, runner.settings))
    grid_points = dict(runner.points)
    _collect_finished(runner, study, grid_points)
    runner.run(study, _proposals(runner, study, settings, fixed))
    _collect_finished(runner, study, grid_points)
    _repeat_best(runner)


def _collect_finished(runner: TrialRunner, study: optuna.Study, grid_points: dict[str, Point]) -> None:
    """Collect the finished proposals of this search and others, in the order in which they were started."""
    runner.finished |= finished_trials(study)
    runner.points = dict(grid_points)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    for attributes in (trial.user_attrs for trial in trials):
        key = attributes.get("key") or attributes.get("repeats", "")
        if finished := runner.finished.get(key):
            runner.points.setdefault(key, Point(STEP, finished["values"]))


def _proposals(
    runner: TrialRunner, study: optuna.Study, settings: TpeSettings, fixed: dict[str, Any]
) -> Iterator[tuple[Trial, Point] | None]:
    """Yield valid proposals that no trial has trained yet, or None to wait for running trials.

    A proposal that was already trained by the grid, an earlier proposal or another search reuses that result.
    """
    space = {name: _distribution(choices) for name, choices in settings.space.items()}
    while True:
        started = None
        with exclusive_access(runner.storage, study):
            fail_stale_trials(runner.storage, study)
            runner.finished |= finished_trials(study)
            if runner.out_of_time(settings.max_minutes):
                return
            proposed = study.get_trials(deepcopy=False, states=_PROPOSED_STATES)
            if len(proposed) >= settings.trials and all(choices.state.is_finished() for choices in proposed):
                return
            if len(proposed) < settings.trials:
                trial = _ask(study, len(proposed), runner, settings, fixed, space)
                values = {name: _value(choices, trial.params[name]) for name, choices in settings.space.items()}
                point = Point(STEP, fixed | values)
                if not _reuse_result(runner, study, trial, point):
                    started = runner.register(trial, point), point
        if started or len(proposed) >= settings.trials:
            yield started


def _reuse_result(runner: TrialRunner, study: optuna.Study, trial: Trial, point: Point) -> bool:
    """End a trial that need not run, because its values are invalid or already trained; return whether it did."""
    try:
        key = runner.key_of(point)
    except ValueError as error:
        log.warning("the proposed values contradict each other: %s", error)
        trial.set_user_attr("reason", str(error))
        study.tell(trial, state=TrialState.PRUNED)
        return True
    if (earlier := runner.finished.get(key)) is None:
        return False
    trial.set_user_attr("repeats", key)
    runner.points.setdefault(key, point)
    complete = earlier["state"] == "complete"
    score = runner.score_of(earlier["rows"]) if complete else None
    study.tell(trial, score, state=TrialState.COMPLETE if complete else TrialState.PRUNED)
    return True


def _ask(
    study: optuna.Study,
    number: int,
    runner: TrialRunner,
    settings: TpeSettings,
    fixed: dict[str, Any],
    space: dict[str, BaseDistribution],
) -> Trial:
    """Ask for proposal ``number``, from 0.

    Each has its own seed, so that a proposal depends on its number and the ended trials, not on how often the search
    was interrupted. With one worker, a resumed search therefore makes the same proposals as an uninterrupted one.
    """
    seed = int(hashlib.sha256(f"{runner.config.seed} {number}".encode()).hexdigest()[:8], 16)
    # Assumed scores of the running trials ("constant liar") keep several workers from near-equal proposals.
    several = runner.workers.size > 1
    study.sampler = TPESampler(seed=seed, n_startup_trials=settings.startup_trials, constant_liar=several)
    if number == 0 and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        config = runner.config.changed(fixed)
        values = {name: _label(config.value(name)) for name in space}
        study.enqueue_trial({name: value for name, value in values.items() if _contains(space[name], value)})
    return study.ask(space)


def _label(value: Any) -> Any:
    """Encode a choice for Optuna, which does not support lists."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def _value(choices: Range | list[Any], label: Any) -> Any:
    return label if isinstance(choices, Range) else next(choice for choice in choices if _label(choice) == label)


def _grid_best(runner: TrialRunner) -> dict[str, Any]:
    trials = runner.table()
    best = best_point(points(trials, runner.settings))
    return {name: float(best[name]) for name in searched_names(trials)}


def _repeat_best(runner: TrialRunner) -> None:
    """Train the best proposal with as many seeds as the grid's points, for a fair comparison."""
    trials = runner.table()
    proposed = trials[trials["step"] == STEP]
    if runner.settings.repeats < 2 or proposed.empty:
        return
    best = best_point(points(proposed, runner.settings))
    values = {name: from_cell(best[name]) for name in searched_names(trials)}
    runner.run_grid([Point(STEP, values, repeat) for repeat in range(runner.settings.repeats)])


def _distribution(choices: Range | list[Any]) -> BaseDistribution:
    if not isinstance(choices, Range):
        return CategoricalDistribution([_label(choice) for choice in choices])
    if choices.whole:
        return IntDistribution(int(choices.low), int(choices.high), step=int(choices.step or 1))
    return FloatDistribution(choices.low, choices.high, log=choices.log, step=choices.step)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (TypeError, ValueError):
        return False


def _pruner(settings: TpeSettings, grid: GridSettings) -> BasePruner:
    if settings.pruner == "none":
        return NopPruner()
    if settings.pruner == "hyperband":
        resources = {"min_resource": max(1, settings.warmup_epochs), "max_resource": grid.epochs}
        return HyperbandPruner(**resources, reduction_factor=3)
    return MedianPruner(n_startup_trials=settings.startup_trials, n_warmup_steps=settings.warmup_epochs)
