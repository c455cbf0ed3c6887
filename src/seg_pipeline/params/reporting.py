"""The report of a run."""

from __future__ import annotations

from pydantic import Field

from seg_pipeline.params.base import Params


class AboutParams(Params):
    """What no file of the data tells, for report and model card; null: not stated."""

    data: str | None = None
    """What the data is, in a sentence or two."""
    source: str | None = None
    """Where it is from, and under which licence."""
    truth: str | None = None
    """Who or what drew the masks."""
    truth_is_model_output: bool = False
    """The masks were made by another model: a high score then shows that it is imitated, not that it is right."""
    intended_use: str | None = None
    """Who may use the model for what."""
    limits: list[str] = Field(default=[])
    """What else a reader must know, a sentence each."""


class ReportingParams(Params):
    compare_with: str | None = None
    """`data_root` of another run on the same split, to be compared with; null: none."""
    num_gallery: int = Field(default=6, ge=1, le=24)
    """Images in each gallery, and on the sheet of predictions."""
    phantom: dict[str, object] | None = None
    """Settings of the drawn data, where the data is drawn."""
    about: AboutParams = AboutParams()
