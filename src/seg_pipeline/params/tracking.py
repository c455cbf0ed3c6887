"""Parameters of experiment tracking."""

from typing import Literal

from pydantic import Field

from seg_pipeline.params.base import Params


class TrackingParams(Params):
    enabled: bool = True
    """Whether to track runs."""
    experiment: str = "seg_pipeline"
    """Name of the experiment (in Weights & Biases: project) that groups runs."""
    to: tuple[Literal["mlflow", "wandb", "tensorboard"], ...] = ("mlflow",)
    """Stores to log to. wandb and tensorboard need the extras of the same name."""
    log_model: bool = True
    """When training ends, log the best model to mlflow, ready to load, register and serve."""
    max_metrics: int = Field(default=40, ge=16)
    """Maximum number of metrics per run. Beyond it, test scores per class are omitted, one kind of score at a time;
    `results/test_scores.json` holds all."""
    system_metrics: bool = False
    """Log the use of processor, memory, disk, network and GPU (mlflow, Weights & Biases)."""
