"""What leaves the project."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seg_pipeline.params.base import Params


class ExportNnunetParams(Params):
    name: str = Field(default="seg_pipeline", pattern=r"^\w+$")
    """Of the data set, in dataset.json."""
    overlap: Literal["regions", "paint"] = "regions"
    """Pixels of several classes: a label of their own and each class a region (regions), or the last class (paint)."""
