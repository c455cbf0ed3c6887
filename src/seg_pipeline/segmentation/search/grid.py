"""The whole search, and which learning rates and weight decays its grid tries."""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pandas as pd

from seg_pipeline.segmentation.manifest.table import data_hash
from seg_pipeline.segmentation.search.proposals import search_space
from seg_pipeline.segmentation.search.ranking import DECAY, RATE, at_edge, best_point, points
from seg_pipeline.segmentation.search.study import heartbeats, lock_study, open_storage
from seg_pipeline.segmentation.search.trials import Point, TrialData, TrialRunner
from seg_pipeline.segmentation.search.workers import Workers
from seg_pipeline.segmentation.settings.search import GridSettings, PoolSettings, TpeSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

log = logging.getLogger(__name__)

MAX_VALUE = 9.9
"""Rates and decays are below 10."""
NO_SPACE, IN_PROCESS = TpeSettings(), PoolSettings()


def search(
    manifest: pd.DataFrame,
    config: TrainingConfig,
    compute: ComputeSettings,
    *,
    folder: Path,
    grid: GridSettings,
    tpe: TpeSettings = NO_SPACE,
    pool: PoolSettings = IN_PROCESS,
    cache_folder: Path | None = None,
) -> pd.DataFrame:
    """Train all trials of a search; one row per epoch and trial, as ``trials.trial_table`` describes.

    A killed search keeps its finished trials in ``folder``. Run again with the same settings, it ends with the same
    table.

    Args:
        manifest: train and val images.
        config: config of the long training. Trials change the searched settings and the length, repeats the seed.
        folder: study and lock of this search.

    Raises:
        ValueError: the database cannot be used, another search is using the study, or every trial of the learning rates
            failed.
    """
    storage, hash_of_data = open_storage(folder, pool.storage), data_hash(manifest)
    running: set[int] = set()
    with (
        lock_study(folder, pool.storage),
        closing(Workers(pool, compute)) as workers,
        heartbeats(storage, running),
    ):
        data = TrialData(
            manifest, replace(compute, save_minutes=None, nodes=1), cache_folder, grid.choose_by, workers.threads
        )
        runner = TrialRunner(config, data, workers, storage, grid, hash_of_data, running)
        tried = _search_rates(runner, _rates(config, grid))
        _search_decays(runner, tried)
        if tpe.space:
            search_space(runner, tpe)
    return runner.table()


def _rates(config: TrainingConfig, grid: GridSettings) -> list[float]:
    if grid.learning_rates is not None:
        return sorted(set(grid.learning_rates))
    return log_spaced(config.optimizer.learning_rate, grid.factor, grid.num_rates)


def log_spaced(centre: float, factor: float, number: int) -> list[float]:
    """Ascending values around ``centre``, each ``factor`` times the previous one, rounded to two digits."""
    powers = [index - (number - 1) // 2 for index in range(number)]
    values = [centre if power == 0 else float(f"{centre * factor**power:.2g}") for power in powers]
    return [value for value in values if value <= MAX_VALUE]


def values_beyond_edge(values: Sequence[float], side: int) -> list[float]:
    """Extend a grid by half as many values, at least one, below the lowest (``side`` -1) or above the highest (1).

    They continue the grid's mean ratio. Side 0 returns none.
    """
    rising = sorted(value for value in values if value > 0)
    if not side or len(rising) < 2 or (side < 0 and 0 in values):
        return []
    ratio = (rising[-1] / rising[0]) ** (1 / (len(rising) - 1))
    end = rising[-1] if side > 0 else rising[0]
    more = [float(f"{end * ratio ** (side * power):.2g}") for power in range(1, len(rising) // 2 + 1)]
    return [value for value in more if value <= MAX_VALUE]


def _search_rates(runner: TrialRunner, tried: list[float]) -> list[float]:
    """Train all rates, then more beyond the edge if the best is at the edge; return all trained rates."""
    decay, grid = runner.config.optimizer.weight_decay, runner.settings
    runner.run_grid(_cells("learning_rate", tried, [decay], grid))
    best = best_point(points(runner.table(), grid))[RATE]
    extension = values_beyond_edge(tried, at_edge(tried, best)) if grid.extend else []
    if extension:
        log.info(
            "the best learning rate, %g, is at the edge of the grid, which is extended by %s", best, _list(extension)
        )
        runner.run_grid(_cells("learning_rate", extension, [decay], grid))
    return sorted({*tried, *extension})


def _search_decays(runner: TrialRunner, tried_rates: list[float]) -> None:
    grid = runner.settings
    decays = sorted({*grid.weight_decays, runner.config.optimizer.weight_decay}) if grid.weight_decays else []
    if not decays:
        return
    rate = best_point(points(runner.table(), grid))[RATE]
    log.info("best learning rate of the grid: %g", rate)
    runner.run_grid(_cells("weight_decay", [rate], decays, grid))
    table = points(runner.table(), grid)
    at_rate = table[table[RATE] == rate]
    extension = values_beyond_edge(decays, at_edge(decays, best_point(at_rate)[DECAY])) if grid.extend else []
    if extension:
        log.info("the best weight decay is at the edge of the grid, which is extended by %s", _list(extension))
        runner.run_grid(_cells("weight_decay", [rate], extension, grid))
    if grid.cross:
        runner.run_grid(_cells("cross", tried_rates, sorted({*decays, *extension}), grid))


def _cells(step: str, rates: Sequence[float], decays: Sequence[float], grid: GridSettings) -> list[Point]:
    return [
        Point(step, {RATE: float(rate), DECAY: float(decay)}, repeat)
        for rate in rates
        for decay in decays
        for repeat in range(grid.repeats)
    ]


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
