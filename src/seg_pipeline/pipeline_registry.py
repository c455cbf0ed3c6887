"""The project's pipelines, found by folder: `kedro registry list` shows them."""

from __future__ import annotations

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

ON_REQUEST = ("export", "export_nnunet", "inference")
"""Run only when they are named."""


def register_pipelines() -> dict[str, Pipeline]:
    """Every package under ``pipelines/`` by name, and the sum of those not ``ON_REQUEST`` as ``__default__``."""
    pipelines = find_pipelines(raise_errors=True)
    default = [pipeline for name, pipeline in pipelines.items() if name not in ON_REQUEST]
    pipelines["__default__"] = sum(default, start=Pipeline([]))
    return pipelines
