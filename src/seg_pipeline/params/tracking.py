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
    """Log the best model to mlflow when training ends, ready to load, register and serve."""
    max_metrics: int = Field(default=40, ge=16)
    """Most metrics of a run. Further test scores per class are left out, one kind of score after another;
    `results/test_scores.json` holds all."""
    system_metrics: bool = False
    """Log the use of processor, memory, disk, network and GPU (mlflow, Weights & Biases)."""
