"""Tracking."""

from __future__ import annotations

from typing import Literal

from seg_pipeline.params.base import Params


class TrackingParams(Params):
    enabled: bool = True
    experiment: str = "seg_pipeline"
    to: tuple[Literal["mlflow", "wandb", "tensorboard"], ...] = ("mlflow",)
    """Stores; wandb and tensorboard need the extras of these names."""
    log_model: bool = True
    """Give mlflow the best model at the end of a training, ready to load, register and serve."""
