"""Evaluation; `scores`, `prediction` and `evaluation.measures` are declared in `segmentation/settings/training.py`."""

from __future__ import annotations

from pydantic import Field

from seg_pipeline.params.base import Params
from seg_pipeline.segmentation.settings.training import MeasureSettings


class EvaluationParams(Params):
    batch_size: int = Field(default=16, ge=1)
    device: str = "auto"
    postprocess: bool = True
    """Choose steps after the threshold, and the threshold, on validation images; false: bare masks."""
    option_images: int = Field(default=64, ge=0)
    """Validation images, in whole series, on which the options of `prediction` are measured; 0: not measured."""
    measures: MeasureSettings = MeasureSettings()
