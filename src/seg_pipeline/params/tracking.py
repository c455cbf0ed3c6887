"""Tracking."""

from __future__ import annotations

from typing import Literal

from seg_pipeline.params.base import Params


class TrackingParams(Params):
    enabled: bool = True
    """Track runs; false: nothing is logged."""
    experiment: str = "seg_pipeline"
    """Experiment (project, in Weights & Biases) that runs are grouped under."""
    to: tuple[Literal["mlflow", "wandb", "tensorboard"], ...] = ("mlflow",)
    """Where runs are logged; wandb and tensorboard need the extras of these names."""
    log_model: bool = True
    """Log the best model to mlflow at the end of a training, ready to load, register and serve."""
