"""Checks, then short trainings -> the settings for the long one."""

from __future__ import annotations

from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, HparamSearchParams, TrainingParams, make_recipe
from seg_pipeline.pipelines import DataFrame, Figure
from seg_pipeline.segmentation.settings.training import ScoreSettings


def run_gates(
    development: DataFrame,
    dataset: DatasetParams,
    scores: ScoreSettings,
    training: TrainingParams,
    params: HparamSearchParams,
    seed: int,
) -> tuple[dict, Figure, Figure, str]:
    """Report of the gates, the curve of learning by heart, what was learnt, and that for the page."""
    recipe = make_recipe(dataset, scores, training, seed)
    gates = seg.search.run_gates(development, recipe, training.compute, params.gates)
    return *gates, seg.report.figure_address(gates.sheet)


def search_settings(
    development: DataFrame,
    search_gates: dict,
    search_folder: Path,
    sample_cache: Path,
    dataset: DatasetParams,
    scores: ScoreSettings,
    training: TrainingParams,
    params: HparamSearchParams,
    seed: int,
) -> DataFrame:
    """A row an epoch of each trial; stops where a gate failed, whose report and pictures are saved by then."""
    seg.search.check_gates(search_gates, stop=params.gates.stop)
    return seg.search.search(
        development,
        make_recipe(dataset, scores, training, seed),
        training.compute,
        folder=search_folder,
        grid=params.grid,
        further=params.tpe,
        pool=params.pool,
        cache_folder=sample_cache,
    )


def choose_hyperparameters(
    development: DataFrame,
    trials: DataFrame,
    dataset: DatasetParams,
    scores: ScoreSettings,
    training: TrainingParams,
    params: HparamSearchParams,
    seed: int,
) -> dict:
    """The best values, why, on which data, and for which other settings."""
    recipe, data_hash = make_recipe(dataset, scores, training, seed), seg.manifest.data_hash(development)
    return seg.search.best_hyperparameters(trials, recipe, params.grid, data_hash=data_hash)


def plot_search(trials: DataFrame, params: HparamSearchParams) -> tuple[Figure, Figure, Figure, Figure, Figure]:
    """Learning rates, weight decays, both crossed, range test, importances."""
    return seg.search.search_figures(trials, params.grid)


def make_search_page(
    search_gates: dict, overfit_picture: str, trials: DataFrame, best: dict, params: HparamSearchParams
) -> str:
    """The whole search on one page."""
    return seg.report.search_page(search_gates, overfit_picture, trials, best, grid=params.grid)
