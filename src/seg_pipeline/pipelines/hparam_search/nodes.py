"""Sanity checks, then short training runs that find the settings for the long one."""

from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, HparamSearchParams, TrainingParams, make_training_config
from seg_pipeline.pipelines import DataFrame, Figure
from seg_pipeline.segmentation.settings.training import ScoreSettings

OptionalFigure = Figure | tuple[()]


def run_sanity_checks(
    train_val_images: DataFrame,
    dataset: DatasetParams,
    scores: ScoreSettings,
    training: TrainingParams,
    params: HparamSearchParams,
    seed: int,
) -> tuple[dict, Figure, Figure]:
    """Run the sanity checks: report, curves of loss and Dice while overfitting a few images, and their predictions."""
    config = make_training_config(dataset, scores, training, seed)
    return seg.search.run_sanity_checks(train_val_images, config, training.compute, params.sanity_checks)


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
    """Run the trials: one row per epoch of each. Stops if a sanity check failed, after its report has been saved."""
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
    """Choose the best values; also returns the reason, and the data and settings they are valid for."""
    config, data_hash = make_training_config(dataset, scores, training, seed), seg.manifest.data_hash(train_val_images)
    return seg.search.best_hyperparameters(trials, config, params.grid, data_hash=data_hash)


def plot_search(
    trials: DataFrame, params: HparamSearchParams
) -> tuple[Figure, OptionalFigure, OptionalFigure, OptionalFigure]:
    """Learning-rate curves, weight-decay curves, their heat map and importances; ``()`` if there is nothing to show."""
    return seg.search.search_figures(trials, params.grid)


def make_search_page(
    sanity_checks: dict, trials: DataFrame, best: dict, params: HparamSearchParams, *figures: bytes | None
) -> str:
    """The whole search on one page. ``figures`` are PNG files, in the order of ``report.search.FIGURES``."""
    return seg.report.search_page(sanity_checks, trials, best, figures, grid=params.grid)
