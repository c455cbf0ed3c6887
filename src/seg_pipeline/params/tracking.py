"""Tracking."""

from __future__ import annotations

from seg_pipeline.params.base import Params


class TrackingParams(Params):
    enabled: bool = True
    experiment: str = "seg_pipeline"
