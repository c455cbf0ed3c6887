"""The library: plain Python that knows neither Kedro nor this project's YAML.

Submodules load on first use (``segmentation.engine``), so that a module that only names them stays
free of torch: `kedro registry list` and `kedro viz` import every pipeline.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
