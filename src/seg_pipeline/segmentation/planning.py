"""What a recipe leaves to the data or the machine, turned into numbers that its checkpoint records."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import torch

from seg_pipeline.segmentation.engine import recipe_loss
from seg_pipeline.segmentation.losses import balanced_weights
from seg_pipeline.segmentation.manifest import class_names
from seg_pipeline.segmentation.memory_probe import largest_batch
from seg_pipeline.segmentation.normalise import training_statistics
from seg_pipeline.segmentation.recipe import Recipe
from seg_pipeline.segmentation.segmenter import Segmenter

log = logging.getLogger(__name__)


def settle(recipe: Recipe, manifest: pd.DataFrame, device: torch.device) -> Recipe:
    """The recipe with numbers for class weights, normalisation "training" and batch size "auto"."""
    train = manifest[manifest["split"] == "train"]
    if recipe.input.normalisation == "training" and recipe.input.statistics is None:
        recipe = recipe.changed({"input.statistics": training_statistics(train, recipe.input)})
    if recipe.loss.class_weights == "auto":
        recipe = recipe.changed({"loss.class_weights": "balanced" if recipe.task == "multiclass" else "none"})
    if recipe.loss.class_weights == "balanced":
        weights = balanced_weights(channel_pixels(train, recipe))
        log.info("class weights: %s", ", ".join(f"{weight:.2f}" for weight in weights))
        recipe = recipe.changed({"loss.class_weights": weights})
    if recipe.sampling.batch_size == "auto":
        size = largest_batch(Segmenter(recipe, pretrained=False).to(device), recipe_loss(recipe), recipe, device)
        log.info("batch size: %d", size)
        recipe = recipe.changed({"sampling.batch_size": size})
    return recipe


def channel_pixels(rows: pd.DataFrame, recipe: Recipe) -> list[int]:
    """Pixels of each channel of the logits, the background's first where it has one."""
    areas = [int(rows[f"area_{name}"].sum()) for name in class_names(rows)]
    if not recipe.background:
        return areas
    pixels = int((rows["height"] * rows["width"]).sum())
    ignored = sum(int(np.array(runs.split()[1::2], dtype=np.int64).sum()) for runs in rows["ignore"])
    return [pixels - ignored - sum(areas), *areas]
