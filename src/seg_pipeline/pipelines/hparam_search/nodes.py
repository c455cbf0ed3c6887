"""Sanity checks, then short trainings, which find the settings for the long training."""

from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, HparamSearchParams, TrainingParams, make_training_config
from seg_pipeline.pipelines import DataFrame, Figure
from seg_pipeline.segmentation.settings.training import ScoreSettings

Drawn = Figure | tuple[()]


def run_sanity_checks(
    train_val_images: DataFrame,
    dataset: DatasetParams,
    scores: ScoreSettings,
    training: TrainingParams,
    params: HparamSearchParams,
    seed: int,
) -> tuple[dict, Figure, Figure]:
    """Report of the sanity checks, loss and Dice while overfitting a few images, and the predictions on them."""
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
    """One row per epoch of each trial. Stops if a sanity check failed; its report and figures are saved by then."""
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
    """The best values, the reason, and the data and other settings they hold for."""
    config, data_hash = make_training_config(dataset, scores, training, seed), seg.manifest.data_hash(train_val_images)
    return seg.search.best_hyperparameters(trials, config, params.grid, data_hash=data_hash)


def plot_search(trials: DataFrame, params: HparamSearchParams) -> tuple[Figure, Drawn, Drawn, Drawn]:
    """Learning-rate curves, weight-decay curves, their heat map and importances; ``()`` if there is nothing to show."""
    return seg.search.search_figures(trials, params.grid)


def make_search_page(
    sanity_checks: dict, trials: DataFrame, best: dict, params: HparamSearchParams, *figures: bytes | None
) -> str:
    """The whole search on one page. ``figures`` are PNG files, in the order of ``report.search.FIGURES``."""
    return seg.report.search_page(sanity_checks, trials, best, figures, grid=params.grid)
