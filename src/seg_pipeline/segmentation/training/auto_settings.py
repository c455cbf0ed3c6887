"""Replace "auto" settings, which depend on the data or the machine, by numbers that the checkpoint records."""

import logging
import math

import numpy as np
import pandas as pd
import torch

from seg_pipeline.segmentation.data.normalisation import training_statistics
from seg_pipeline.segmentation.losses import balanced_weights
from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED, class_names
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.models.trained_weights import with_start_normalisation
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.batch_size import largest_batch
from seg_pipeline.segmentation.training.setup import config_loss

log = logging.getLogger(__name__)

IMAGES_PER_STEP = 16
"""Batch size that ``optimizer.learning_rate`` refers to if the batch size is automatic."""


def resolve_auto_settings(
    config: TrainingConfig, manifest: pd.DataFrame, device: torch.device, *, processes: int = 1
) -> TrainingConfig:
    """Return the config with numbers for class weights, normalisation "training" and batch size "auto"."""
    train = manifest[manifest["split"] == "train"]
    config = with_start_normalisation(config)
    if config.input.normalisation == "training" and config.input.statistics is None:
        config = config.changed({"input.statistics": training_statistics(train, config.input)})
    if config.loss.class_weights == "auto":
        config = config.changed({"loss.class_weights": "balanced" if config.task == "multiclass" else "none"})
    if config.loss.class_weights == "balanced":
        weights = balanced_weights(channel_pixels(train, config))
        names = ["background", *config.classes][-len(weights) :]
        log.info(
            "class weights: %s", ", ".join(f"{name} {weight:.2f}" for name, weight in zip(names, weights, strict=True))
        )
        config = config.changed({"loss.class_weights": weights})
    if config.sampling.batch_size == "auto":
        size = _batch_size(config, len(train), device, processes)
        config = config.changed({"sampling.batch_size": size, "optimizer.learning_rate": scaled_rate(config, size)})
        log.info("batch size: %d, learning rate: %.3g", size, config.optimizer.learning_rate)
    return config


def scaled_rate(config: TrainingConfig, batch_size: int) -> float:
    """Learning rate for an automatic batch size.

    Adam's rate grows with the square root of the batch (Malladi et al. 2022, arXiv:2205.10287), SGD's in proportion
    to it (Goyal et al. 2017, arXiv:1706.02677).
    """
    power = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}[config.optimizer.rate_scaling]
    return config.optimizer.learning_rate * (batch_size / IMAGES_PER_STEP) ** power


def _batch_size(config: TrainingConfig, num_images: int, device: torch.device, processes: int) -> int:
    """Largest batch, over all processes, that fits into memory and leaves at least four steps per epoch.

    At most 64 images per GPU, as each has its own memory, or per machine without GPU.
    """
    model = Segmenter(config, pretrained=False).to(device)
    four_steps = 2 ** int(math.log2(max(1, num_images // 4)))
    if device.type == "cuda":
        size = largest_batch(
            model, config_loss(config), config, device, max_batch_size=min(64, max(1, four_steps // processes))
        )
    else:
        size = (
            largest_batch(model, config_loss(config), config, device, max_batch_size=min(64, four_steps)) // processes
        )
    return max(1, size) * processes


def channel_pixels(rows: pd.DataFrame, config: TrainingConfig) -> list[int]:
    """Number of pixels per channel of the logits; the background, if any, comes first."""
    names = class_names(rows)
    areas = [int(rows[f"area_{name}"].sum()) for name in names]
    if not config.background:
        return areas
    # in other images, unlabelled pixels may belong to a class that is not annotated
    annotated = rows[(rows[[f"mask_{name}" for name in names]] != NOT_ANNOTATED).all(axis=1)]
    pixels = int(
        (annotated["height"] * annotated["width"]).sum()
        - annotated[[f"area_{name}" for name in names]].to_numpy().sum()
    )
    ignored = sum(int(np.array(runs.split()[1::2], dtype=np.int64).sum()) for runs in annotated["ignore"])
    return [pixels - ignored, *areas]
