"""Base of all parameter models: unknown keys are errors, values are frozen."""

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    # Built by a run only: `kedro registry list` stays fast.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
