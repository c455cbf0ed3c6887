"""Points that Optuna proposes in a space of any settings, with pruning."""

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

from seg_pipeline.segmentation.search.ranking import best_point, plain, points, searched_names
from seg_pipeline.segmentation.search.study import alone, fail_lost, finished_trials, open_study
from seg_pipeline.segmentation.search.trials import Point, TrialRunner
from seg_pipeline.segmentation.settings.search import GridSettings, Range, TpeSettings

log = logging.getLogger(__name__)

STEP = "tpe"
_PROPOSED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


def search_space(runner: TrialRunner, settings: TpeSettings) -> None:
    """Train proposals until there are ``settings.trials`` or the time is up, then the repeats of the best one.

    The first proposal is the best point of the grid with the config's own values for the rest of the space.
    """
    fixed = _grid_best(runner)
    text = json.dumps([sorted((name, str(one)) for name, one in settings.space.items()), runner.settings.epochs])
    name = f"tpe-{runner.identity}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    study = open_study(name, runner.storage, pruner=_pruner(settings, runner.settings))
    of_grid = dict(runner.wanted)
    _take_over(runner, study, of_grid)
    runner.run(study, _proposals(runner, study, settings, fixed))
    _take_over(runner, study, of_grid)
    _repeat_best(runner)


def _take_over(runner: TrialRunner, study: optuna.Study, of_grid: dict[str, Point]) -> None:
    """Count the proposals of this search and others, in the order in which they were begun."""
    runner.finished |= finished_trials(study)
    runner.wanted = dict(of_grid)
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    for about in (one.user_attrs for one in trials):
        key = about.get("key") or about.get("repeats", "")
        if found := runner.finished.get(key):
            runner.wanted.setdefault(key, Point(STEP, found["values"]))


def _proposals(
    runner: TrialRunner, study: optuna.Study, settings: TpeSettings, fixed: dict[str, Any]
) -> Iterator[tuple[Trial, Point] | None]:
    """Proposals whose values are allowed together and that no trial has trained yet; None to wait for those that run.

    A proposal that the grid, an earlier one or another search trained has that trial's result.
    """
    space = {name: _distribution(one) for name, one in settings.space.items()}
    while True:
        begun = None
        with alone(runner.storage, study):
            fail_lost(runner.storage, study)
            runner.finished |= finished_trials(study)
            if runner.out_of_time(settings.max_minutes):
                return
            found = study.get_trials(deepcopy=False, states=_PROPOSED)
            if len(found) >= settings.trials and all(one.state.is_finished() for one in found):
                return
            if len(found) < settings.trials:
                trial = _ask(study, len(found), runner, settings, fixed, space)
                values = {name: _value(one, trial.params[name]) for name, one in settings.space.items()}
                point = Point(STEP, fixed | values)
                if not _is_known(runner, study, trial, point):
                    begun = runner.claim(trial, point), point
        if begun or len(found) >= settings.trials:
            yield begun


def _is_known(runner: TrialRunner, study: optuna.Study, trial: Trial, point: Point) -> bool:
    """Whether a trial need not run, and then end it."""
    try:
        key = runner.key_of(point)
    except ValueError as error:
        log.warning("proposed values do not go together: %s", error)
        trial.set_user_attr("reason", str(error))
        study.tell(trial, state=TrialState.PRUNED)
        return True
    if (same := runner.finished.get(key)) is None:
        return False
    trial.set_user_attr("repeats", key)
    runner.wanted.setdefault(key, point)
    complete = same["state"] == "complete"
    score = runner.score_of(same["rows"]) if complete else None
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

    Each has its own seed, so that a proposal depends on its number and the trials that have ended, and not on how
    often the search was interrupted. On one worker a resumed search therefore repeats the proposals of an unbroken one.
    """
    seed = int(hashlib.sha256(f"{runner.config.seed} {number}".encode()).hexdigest()[:8], 16)
    # A lie about the trials that are running keeps several workers from near-equal proposals.
    several = runner.workers.size > 1
    study.sampler = TPESampler(seed=seed, n_startup_trials=settings.startup_trials, constant_liar=several)
    if number == 0 and not study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        config = runner.config.changed(fixed)
        values = {name: _label(config.value(name)) for name in space}
        study.enqueue_trial({name: value for name, value in values.items() if _contains(space[name], value)})
    return study.ask(space)


def _label(value: Any) -> Any:
    """What stands for a choice in Optuna, which allows no lists."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def _value(one: Range | list[Any], label: Any) -> Any:
    return label if isinstance(one, Range) else next(choice for choice in one if _label(choice) == label)


def _grid_best(runner: TrialRunner) -> dict[str, Any]:
    trials = runner.table()
    best = best_point(points(trials, runner.settings))
    return {name: float(best[name]) for name in searched_names(trials)}


def _repeat_best(runner: TrialRunner) -> None:
    """Train the best proposal from as many seeds as the grid's points, so that the two compare fairly."""
    trials = runner.table()
    proposed = trials[trials["step"] == STEP]
    if runner.settings.repeats < 2 or proposed.empty:
        return
    best = best_point(points(proposed, runner.settings))
    values = {name: plain(best[name]) for name in searched_names(trials)}
    runner.run_grid([Point(STEP, values, repeat) for repeat in range(runner.settings.repeats)])


def _distribution(one: Range | list[Any]) -> BaseDistribution:
    if not isinstance(one, Range):
        return CategoricalDistribution([_label(choice) for choice in one])
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
        resources = {"min_resource": max(1, settings.warmup_epochs), "max_resource": grid.epochs}
        return HyperbandPruner(**resources, reduction_factor=3)
    return MedianPruner(n_startup_trials=settings.startup_trials, n_warmup_steps=settings.warmup_epochs)
