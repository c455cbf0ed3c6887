"""Checks, then short trainings -> the settings for the long one."""

from __future__ import annotations

from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, HparamSearchParams, TrainingParams, make_training_config
from seg_pipeline.pipelines import DataFrame, Figure
from seg_pipeline.segmentation.settings.training import ScoreSettings


def run_sanity_checks(
    train_val_images: DataFrame,
    dataset: DatasetParams,
    scores: ScoreSettings,
    training: TrainingParams,
    params: HparamSearchParams,
    seed: int,
) -> tuple[dict, Figure, Figure, str]:
    """Report of the gates, the curve of learning by heart, what was learnt, and that for the page."""
    config = make_training_config(dataset, scores, training, seed)
    gates = seg.search.run_sanity_checks(train_val_images, config, training.compute, params.sanity_checks)
    return *gates, seg.report.figure_address(gates.sheet)


def search_settings(
    train_val_images: DataFrame,
    sanity_checks: dict,
    search_folder: Path,
    pixel_cache: Path,
    dataset: DatasetParams,
    scores: ScoreSettings,
    training: TrainingParams,
    params: HparamSearchParams,
    seed: int,
) -> DataFrame:
    """A row an epoch of each trial; stops where a gate failed, whose report and pictures are saved by then."""
    seg.search.stop_on_failed_checks(sanity_checks, stop=params.sanity_checks.stop)
    return seg.search.search(
        train_val_images,
        make_training_config(dataset, scores, training, seed),
        training.compute,
        folder=search_folder,
        grid=params.grid,
        tpe=params.tpe,
        pool=params.pool,
        cache_folder=pixel_cache,
    )


def choose_hyperparameters(
    train_val_images: DataFrame,
    trials: DataFrame,
    dataset: DatasetParams,
    scores: ScoreSettings,
    training: TrainingParams,
    params: HparamSearchParams,
    seed: int,
) -> dict:
    """The best values, why, on which data, and for which other settings."""
    config, data_hash = make_training_config(dataset, scores, training, seed), seg.manifest.data_hash(train_val_images)
    return seg.search.best_hyperparameters(trials, config, params.grid, data_hash=data_hash)


def plot_search(trials: DataFrame, params: HparamSearchParams) -> tuple[Figure, Figure, Figure, Figure | tuple[()]]:
    """Learning-rate curves, weight-decay curves, their heat map, and importances (``()`` for too few trials)."""
    return seg.search.search_figures(trials, params.grid)


def make_search_page(
    sanity_checks: dict, overfit_thumbnail: str, trials: DataFrame, best: dict, params: HparamSearchParams
) -> str:
    """The whole search on one page."""
    return seg.report.search_page(sanity_checks, overfit_thumbnail, trials, best, grid=params.grid)
