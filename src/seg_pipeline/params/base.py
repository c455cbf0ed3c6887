"""The form of every model here: closed to unknown keys, and frozen."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)  # built by a run, not by `kedro registry`
