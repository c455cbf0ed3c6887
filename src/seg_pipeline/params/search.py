"""The search."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from seg_pipeline.params.base import Params


class HparamSearchParams(Params):
    learning_rates: list[Annotated[float, Field(gt=0, lt=10)]] = Field(default=[3e-4, 1e-3, 3e-3], min_length=2)
    epochs: int = Field(default=4, ge=1)
    """Epochs of each trial; each starts from equal weights."""
