"""Which trials a search runs, one step after the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pandas as pd

from seg_pipeline.segmentation.search import sampler
from seg_pipeline.segmentation.search.best_point import DECAY, RATE, at_edge, best_point, points
from seg_pipeline.segmentation.search.coordinator import Coordinator, Point
from seg_pipeline.segmentation.search.pool import make_pool
from seg_pipeline.segmentation.search.study import only_coordinator, open_storage
from seg_pipeline.segmentation.search.trial import Place
from seg_pipeline.segmentation.settings.search import GridSettings, PoolSettings, TpeSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

log = logging.getLogger(__name__)

HIGHEST = 9.9
"""Rates and decays are below 10."""
NOTHING_FURTHER, IN_PROCESS = TpeSettings(), PoolSettings()


def search(
    manifest: pd.DataFrame,
    config: TrainingConfig,
    compute: ComputeSettings,
    *,
    folder: Path,
    grid: GridSettings,
    further: TpeSettings = NOTHING_FURTHER,
    pool: PoolSettings = IN_PROCESS,
    cache_folder: Path | None = None,
) -> pd.DataFrame:
    """Trials with one row per epoch, as described at ``coordinator.trial_table``.

    A search that was killed resumes from what ``folder`` holds and, with the same settings, ends with the same table.

    Args:
        manifest: train and val images.
        config: of the long training; trials differ from it in what is searched, in length, and repeats in the seed.
        folder: of this search: study, lock, checkpoints of trials.

    Raises:
        ValueError: another search runs on the study; every trial of the rates failed.
    """
    place = Place(manifest, compute, cache_folder, folder, pool.save_seconds)
    with only_coordinator(folder, pool.storage), closing(make_pool(pool, place)) as workers:
        storage = open_storage(folder, pool.storage)
        coordinator = Coordinator(config, place, workers, storage, grid)
        tried = _search_rates(coordinator, _rates(config, grid))
        _search_decays(coordinator, tried)
        if further.space:
            sampler.search_space(coordinator, further)
    return coordinator.table()


def _rates(config: TrainingConfig, grid: GridSettings) -> list[float]:
    if grid.learning_rates is not None:
        return sorted(set(grid.learning_rates))
    return log_spaced(config.optimizer.learning_rate, grid.factor, grid.num_rates)


def log_spaced(centre: float, factor: float, number: int) -> list[float]:
    """Rising values, each ``factor`` times the one before, around ``centre``; of two digits but for the centre."""
    powers = [index - (number - 1) // 2 for index in range(number)]
    values = [centre if power == 0 else float(f"{centre * factor**power:.2g}") for power in powers]
    return [value for value in values if value <= HIGHEST]


def beyond(values: Sequence[float], side: int) -> list[float]:
    """Half as many values again, at least one, on beyond the lowest (-1) or the highest (1) at the grid's ratio."""
    rising = sorted(value for value in values if value > 0)
    if not side or len(rising) < 2 or (side < 0 and 0 in values):
        return []
    ratio = (rising[-1] / rising[0]) ** (1 / (len(rising) - 1))
    end = rising[-1] if side > 0 else rising[0]
    more = [float(f"{end * ratio ** (side * power):.2g}") for power in range(1, len(rising) // 2 + 1)]
    return [value for value in more if value <= HIGHEST]


def _search_rates(coordinator: Coordinator, tried: list[float]) -> list[float]:
    """Runs them, and those beyond the edge where the best lies there; all that were run."""
    decay, grid = coordinator.config.optimizer.weight_decay, coordinator.settings
    coordinator.run(_cells("learning_rate", tried, [decay], grid))
    best = best_point(points(coordinator.table(), grid))[RATE]
    more = beyond(tried, at_edge(tried, best)) if grid.extend else []
    if more:
        log.info("the best learning rate, %g, lies at the grid's edge: it goes on with %s", best, _list(more))
        coordinator.run(_cells("learning_rate", more, [decay], grid))
    return sorted({*tried, *more})


def _search_decays(coordinator: Coordinator, tried_rates: list[float]) -> None:
    grid = coordinator.settings
    decays = sorted({*grid.weight_decays, coordinator.config.optimizer.weight_decay}) if grid.weight_decays else []
    if not decays:
        return
    rate = best_point(points(coordinator.table(), grid))[RATE]
    log.info("best learning rate of the grid: %g", rate)
    coordinator.run(_cells("weight_decay", [rate], decays, grid))
    table = points(coordinator.table(), grid)
    at_rate = table[table[RATE] == rate]
    more = beyond(decays, at_edge(decays, best_point(at_rate)[DECAY])) if grid.extend else []
    if more:
        log.info("the best weight decay lies at the grid's edge: it goes on with %s", _list(more))
        coordinator.run(_cells("weight_decay", [rate], more, grid))
    if grid.cross:
        coordinator.run(_cells("cross", tried_rates, sorted({*decays, *more}), grid))


def _cells(step: str, rates: Sequence[float], decays: Sequence[float], grid: GridSettings) -> list[Point]:
    return [
        Point(step, {RATE: float(rate), DECAY: float(decay)}, repeat)
        for rate in rates
        for decay in decays
        for repeat in range(grid.repeats)
    ]


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
