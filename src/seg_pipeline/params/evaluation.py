"""Evaluation; `scores`, `prediction` and `evaluation.measures` are declared in `segmentation/settings/training.py`."""

from pydantic import Field

from seg_pipeline.params.base import Params
from seg_pipeline.segmentation.settings.review import ReviewSettings
from seg_pipeline.segmentation.settings.training import MeasureSettings


class AgreementParams(Params):
    compare_with: str | None = None
    """`data_root` of the environment with another reader's masks of the same images; run its data_processing first."""


class EvaluationParams(Params):
    batch_size: int = Field(default=16, ge=1)
    """Images per batch."""
    num_workers: int | None = Field(default=None, ge=0, le=64)
    """Threads that read images, postprocess and score; null: one per core, at most 8."""
    device: str = "auto"
    """auto: CUDA if available, else CPU."""
    postprocess: bool = True
    """Choose thresholds and postprocessing on validation images; false: plain masks."""
    calibrate: bool = True
    """Apply temperatures fitted on validation images, so that probabilities match observed frequencies. Training fits
    them; evaluation refits them for mirrored or tiled predictions."""
    review: ReviewSettings = ReviewSettings()
    option_images: int = Field(default=64, ge=0)
    """Validation images, in complete series, on which the `prediction` options are compared; 0: none."""
    measures: MeasureSettings = MeasureSettings()
