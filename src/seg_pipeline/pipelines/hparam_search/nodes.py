"""Short trainings -> the learning rate for the long one."""

from __future__ import annotations

import pandas as pd

from seg_pipeline import segmentation as seg
from seg_pipeline.params import (
    DatasetParams,
    HparamSearchParams,
    ScoreParams,
    TrainingParams,
    recipe_settings,
)
from seg_pipeline.pipelines import Figure


def search_learning_rates(
    manifest: pd.DataFrame,
    dataset: DatasetParams,
    scores: ScoreParams,
    training: TrainingParams,
    params: HparamSearchParams,
    seed: int,
) -> pd.DataFrame:
    """A row an epoch of each rate."""
    recipe = seg.recipe.Recipe(**recipe_settings(dataset, scores, training, seed))
    run = seg.engine.runner(
        manifest,
        device=training.fit.device,
        num_workers=training.loader.num_workers,
        cache=training.loader.cache,
    )
    return seg.search.search_learning_rates(recipe, params.learning_rates, epochs=params.epochs, run=run)


def choose_hyperparameters(manifest: pd.DataFrame, trials: pd.DataFrame) -> dict:
    """The best rate, why, and on which data."""
    return seg.search.best_rate(trials) | {"data_hash": seg.manifest.data_hash(manifest)}


def plot_learning_rates(trials: pd.DataFrame, best: dict) -> Figure:
    """Curves of every rate, the chosen one marked."""
    return seg.plotting.plot_learning_rates(trials, best["learning_rate"])
