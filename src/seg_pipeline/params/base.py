"""Base of all parameter models: unknown keys are errors, values are frozen."""

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    # pydantic builds a model on first use, so that commands such as `kedro registry list` stay fast
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
