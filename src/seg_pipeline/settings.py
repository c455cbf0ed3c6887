"""Kedro's project settings."""

import copy
import warnings
from typing import Any

from kedro.config import OmegaConfigLoader

from seg_pipeline.hooks.cluster import ClusterHooks
from seg_pipeline.hooks.errors import ErrorHooks
from seg_pipeline.hooks.inputs import InputHooks
from seg_pipeline.hooks.locks import LockHooks
from seg_pipeline.hooks.parameters import ParameterHooks
from seg_pipeline.hooks.run_checks import RunCheckHooks
from seg_pipeline.hooks.setup import SampleHooks, SetupHooks
from seg_pipeline.hooks.summary import SummaryHooks
from seg_pipeline.hooks.terminal import TerminalHooks
from seg_pipeline.hooks.tracking import TrackingHooks

# Kedro 1.7 calls a name that omegaconf 2.4 deprecates: three warnings per run that users cannot fix.
warnings.filterwarnings("ignore", "register_new_resolver", UserWarning)
# `--pipeline` works and is what people type; Kedro prefers `--pipelines`.
warnings.filterwarnings("ignore", "Option '--pipeline' is deprecated", DeprecationWarning)

_tracking = TrackingHooks()
HOOKS: tuple[Any, ...] = (
    ParameterHooks(),
    LockHooks(),
    InputHooks(),
    SampleHooks(),
    ClusterHooks(),
    RunCheckHooks(),
    ErrorHooks(),
    SetupHooks(),
    TerminalHooks(),
    _tracking,
    SummaryHooks(_tracking),
)


class ConfigLoader(OmegaConfigLoader):
    """Reads conf/ once; Kedro's own does so each time a hook asks, which took a third of the time to start a run."""

    def __getitem__(self, key: str) -> dict[str, Any]:
        if key not in self.data:
            self[key] = super().__getitem__(key)
        return copy.deepcopy(self.data[key])


CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},  # an environment states only the keys that differ from base
}
