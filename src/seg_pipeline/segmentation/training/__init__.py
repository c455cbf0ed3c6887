"""Train a model: run, epoch, state, schedules, processes. It writes no files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "devices": ["pick_device"],
        "run": ["train"],
    },
)
