"""Training; the groups of settings that determine its result are declared in `segmentation/settings/training.py`."""

from __future__ import annotations

from pydantic import Field

from seg_pipeline.params.base import Params
from seg_pipeline.params.data import DatasetParams
from seg_pipeline.segmentation.settings.training import (
    ComputeSettings,
    FitSettings,
    InputSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    SamplingSettings,
    ScoreSettings,
)
from seg_pipeline.segmentation.settings.training_config import TrainingConfig


class TrainingParams(Params):
    """The groups up to `fit` determine the result; `segmentation/settings/training.py` describes their keys."""

    model: ModelSettings = ModelSettings()
    input: InputSettings = InputSettings()
    sampling: SamplingSettings = SamplingSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    fit: FitSettings = FitSettings()
    compute: ComputeSettings = ComputeSettings()
    folds: int | None = Field(default=None, ge=2)
    """Train so many models, each validated on one fold; null: one model, on the split."""
    use_search_result: bool = True
    """Take what hparam_search found on the same data and for the same other settings, where it did."""
    resume: bool = True
    """Go on from an unfinished run with the same data and settings; false: start anew."""


def make_training_config(
    dataset: DatasetParams, scores: ScoreSettings, training: TrainingParams, seed: int
) -> TrainingConfig:
    """All that determines the result of a training run. Raises ValueError where parts do not fit each other."""
    return TrainingConfig(
        task=dataset.task,
        classes=tuple(dataset.names),
        background=dataset.task == "multiclass" and dataset.unlabelled_pixels == "background",
        model=training.model,
        input=training.input,
        sampling=training.sampling,
        loss=training.loss,
        optimizer=training.optimizer,
        fit=training.fit,
        scores=scores,
        seed=seed,
    )
