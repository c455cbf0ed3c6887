"""What no file of the data tells, as the user gives it for report and model card; None: not stated."""

from __future__ import annotations

from dataclasses import dataclass

from seg_pipeline.segmentation.settings.training import Settings


@dataclass(frozen=True, kw_only=True)
class ModelCardDetails(Settings):
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
    limits: tuple[str, ...] = ()
    """What else a reader must know, a sentence each."""
