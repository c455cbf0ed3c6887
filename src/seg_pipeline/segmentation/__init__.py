"""The library: plain Python that knows neither Kedro nor this project's YAML.

Rooms load on first use (``segmentation.training``), so that a module that only names them stays free of torch:
`kedro registry list` and `kedro viz` import every pipeline.
"""

import pkgutil

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules=[room.name for room in pkgutil.iter_modules(__path__)]
)
