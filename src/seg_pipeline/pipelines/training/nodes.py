"""Manifest -> the best checkpoint, the last one to go on from, and the history."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pandas as pd

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, ScoreParams, TrainingParams, recipe_settings

log = logging.getLogger(__name__)


def choose_recipe(
    manifest: pd.DataFrame,
    best_hyperparameters: dict | None,
    dataset: DatasetParams,
    scores: ScoreParams,
    params: TrainingParams,
    seed: int,
) -> dict:
    """Settings of the run: the YAML's, and what the search found on the same data where there is a search."""
    recipe = seg.recipe.Recipe(**recipe_settings(dataset, scores, params, seed))
    found = best_hyperparameters if params.use_search else None
    return seg.recipe.with_search(recipe, found, seg.manifest.data_hash(manifest)).to_dict()


def train_model(
    manifest: pd.DataFrame, recipe_dict: dict, resume_from: dict | None, params: TrainingParams
) -> Iterator[tuple[dict, dict, pd.DataFrame]]:
    """Yields last checkpoint, best checkpoint and history after every epoch; the catalog saves all three."""
    recipe = seg.recipe.Recipe.from_dict(recipe_dict)
    device = seg.devices.pick_device(params.fit.device)
    saved = resume_from if params.resume else None
    state = seg.engine.resume(recipe, seg.manifest.data_hash(manifest), device, saved)
    loaders = seg.loaders.make_loaders(
        manifest, recipe, device=device, num_workers=params.loader.num_workers, cache=params.loader.cache
    )
    if state.finished:
        yield state.last_checkpoint(), state.best_checkpoint(), pd.DataFrame(state.history)
    for row in seg.engine.fit(state, loaders):
        log.info(seg.engine.line(row, recipe.epochs))
        yield state.last_checkpoint(), state.best_checkpoint(), pd.DataFrame(state.history)
