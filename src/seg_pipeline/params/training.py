"""Parameters of training; groups that determine its result are declared in `segmentation/settings/training.py`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from pydantic import Field, field_validator, model_validator

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
    StartSettings,
)
from seg_pipeline.segmentation.settings.training_config import GROUPS, TrainingConfig


class TrainingParams(Params):
    """All groups except `compute` determine the result."""

    model: ModelSettings = ModelSettings()
    input: InputSettings = InputSettings()
    sampling: SamplingSettings = SamplingSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    fit: FitSettings = FitSettings()
    compute: ComputeSettings = ComputeSettings()
    folds: int | None = Field(default=None, ge=2)
    """Train this many models, each validated on one fold; null: one model, on the split."""
    pseudo_labels: bool = False
    """Also train on the pseudo-labels that the pipeline `select` wrote."""
    use_search_result: bool = True
    """Use the result of hparam_search if it used the same data and the same other settings."""
    start_from: str | None = None
    """Start from the weights of this earlier checkpoint (`checkpoint.pt`), with a new schedule, on new or more data.
    Classes are matched by name and may be added, left out or reordered."""
    keep_normalisation: bool = True
    """With `start_from`: normalise as that checkpoint does; false: use the settings of `input`."""
    allow_leakage: bool = False
    """With `start_from`: warn instead of stopping if the checkpoint has seen test images, or was trained on validation
    images."""
    resume: bool = True
    """Resume an unfinished run with the same data and settings; false: start from scratch."""

    @field_validator("input", mode="before")
    @classmethod
    def _parse_size(cls, settings: Any) -> Any:
        return (
            {**settings, "size": _height_and_width(settings["size"])}
            if isinstance(settings, dict) and "size" in settings
            else settings
        )

    @model_validator(mode="after")
    def _check_reading(self) -> TrainingParams:
        if self.input.reading != InputSettings().reading:
            raise ValueError("`input.reading` is a copy of `dataset.reading`, which all pipelines share; set it there")
        return self


def _height_and_width(size: Any) -> Any:
    """Parse a size: one number is a square, and "96x128" is 96 high and 128 wide."""
    sides = re.fullmatch(r"(\d+)(?: *x *(\d+))?", str(size))
    if sides:
        return int(sides[1]), int(sides[2] or sides[1])
    if isinstance(size, tuple | list) and len(size) == 2:
        return size
    raise ValueError(
        "`size` must be a height and a width, such as [96, 128]; on the command line `--params "
        "training.input.size=96x128`, or `training.input.size=128` for a square"
    )


def make_training_config(
    dataset: DatasetParams, scores: ScoreSettings, training: TrainingParams, seed: int
) -> TrainingConfig:
    """All settings that determine the result of a training. Raises ValueError if they contradict each other."""
    return TrainingConfig(
        task=dataset.task,
        classes=tuple(dataset.names),
        background=dataset.task == "multiclass" and dataset.unlabelled_pixels == "background",
        objects=dataset.objects,
        scores=scores,
        seed=seed,
        start=StartSettings(checkpoint=training.start_from, keep_normalisation=training.keep_normalisation),
        **{group: getattr(training, group) for group in GROUPS}
        | {"input": replace(training.input, reading=dataset.reading)},
    )
