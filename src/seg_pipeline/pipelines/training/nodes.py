"""Manifest -> the best checkpoint, the last one to go on from, and the history."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, TrainingParams, make_recipe
from seg_pipeline.pipelines import DataFrame, Figure
from seg_pipeline.segmentation.settings.training import ScoreSettings

log = logging.getLogger(__name__)


def choose_recipe(
    development: DataFrame,
    best_hyperparameters: dict | None,
    dataset: DatasetParams,
    scores: ScoreSettings,
    params: TrainingParams,
    seed: int,
) -> dict:
    """Settings of the run: the YAML's, and under ``from_search`` which of them a search on the same data found."""
    recipe = make_recipe(dataset, scores, params, seed)
    found = best_hyperparameters if params.use_search else None
    recipe, taken = seg.settings.with_search(recipe, found, seg.manifest.data_hash(development))
    return {**recipe.to_dict(), seg.settings.FROM_SEARCH: taken}


def train_model(
    development: DataFrame, recipe: dict, resume_from: dict | None, sample_cache: Path, params: TrainingParams
) -> Iterator[tuple[dict, dict, DataFrame, Figure, Figure]]:
    """Yields last checkpoint, best checkpoint, history and two figures as training goes on; the catalog saves them."""
    moments = seg.training.train(
        development,
        seg.settings.Recipe.from_dict(recipe),
        params.compute,
        folds=params.folds,
        saved=resume_from if params.resume else None,
        cache_folder=sample_cache,
    )
    pictures = seg.exploration.LivePictures(development)
    for moment in moments:
        curves, sheet = pictures.of(moment)
        yield moment.last, moment.best, moment.history, curves, sheet
