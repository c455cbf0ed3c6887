"""Parameters of the exploration pipeline."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from seg_pipeline.params.base import Params


class AnimationParams(Params):
    series: str | None = None
    """Series to animate; null: the one with the most annotated pixels."""
    max_frames: int = Field(default=60, ge=1, le=1000)
    """Maximum number of frames; longer series are sampled evenly."""
    max_side: int = Field(default=320, ge=64, le=2048)
    """Longer side of the animation in pixels."""


class EdaParams(Params):
    num_samples: int = Field(default=6, ge=1, le=24)
    """Images on the sample sheet."""
    sample_selection: Literal["stratified", "random"] = "stratified"
    """stratified: cover all classes, images without a mask and many groups; random: any. Both use train images."""
    sample_ids: list[str] = Field(default=[], max_length=24)
    """Images to show first on the sheet, from any split."""
    max_images: int = Field(default=400, ge=1, le=100_000)
    """Images read for intensities and locations, a random sample of all splits."""
    max_points: int = Field(default=5000, ge=1, le=100_000)
    """Images in the interactive chart, one point each."""
    max_classes: int = Field(default=20, ge=1, le=48)
    """Classes per figure; only the most frequent are shown, and a note summarises the rest."""
    day_pattern: str | None = r"day(?P<day>\d+)"
    """Regular expression whose group `day` finds the day in a series' name; null: no days."""
    animation: AnimationParams = AnimationParams()

    @model_validator(mode="after")
    def _check_day_pattern(self) -> EdaParams:
        try:
            groups = re.compile(self.day_pattern or "(?P<day>)").groupindex
        except re.error as error:
            raise ValueError(f"`day_pattern` {self.day_pattern!r} is not a valid regular expression: {error}") from None
        if "day" not in groups:
            raise ValueError(f"`day_pattern` {self.day_pattern!r} needs a group named day, as in `day(?P<day>\\d+)`")
        return self
