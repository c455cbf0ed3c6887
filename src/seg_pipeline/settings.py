"""Kedro's project settings."""

from __future__ import annotations

import warnings
from typing import Any

# Kedro 1.7 calls a name that omegaconf 2.4 deprecates: three times a run, nothing a user could mend.
warnings.filterwarnings("ignore", "register_new_resolver", UserWarning)

HOOKS: tuple[Any, ...] = ()

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},  # an environment states only the keys that differ from base
}
