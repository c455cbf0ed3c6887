"""Short trainings -> the learning rate for the long one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, HparamSearchParams, TrainingParams, make_recipe
from seg_pipeline.pipelines import Figure
from seg_pipeline.segmentation.recipe import ScoreSettings


def search_learning_rates(
    development: pd.DataFrame,
    sample_cache: Path,
    dataset: DatasetParams,
    scores: ScoreSettings,
    training: TrainingParams,
    params: HparamSearchParams,
    seed: int,
) -> pd.DataFrame:
    """A row an epoch of each rate."""
    run = seg.training.runner(development, training.compute, cache_folder=sample_cache)
    recipe = make_recipe(dataset, scores, training, seed)
    return seg.search.search_learning_rates(recipe, params.learning_rates, epochs=params.epochs, run=run)


def choose_hyperparameters(development: pd.DataFrame, trials: pd.DataFrame) -> dict:
    """The best rate, why, and on which data."""
    return seg.search.best_rate(trials) | {"data_hash": seg.manifest.data_hash(development)}


def plot_learning_rates(trials: pd.DataFrame, best: dict) -> Figure:
    """Curves of every rate, the chosen one marked."""
    return seg.plotting.plot_learning_rates(trials, best["learning_rate"])
