"""Evaluation."""

from __future__ import annotations

from pydantic import Field

from seg_pipeline.params.base import Params


class EvaluationParams(Params):
    batch_size: int = Field(default=16, ge=1)
    device: str = "auto"
