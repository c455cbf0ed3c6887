"""Networks: any architecture and encoder, and the segmenter that adds their preprocessing and postprocessing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "networks": ["build_model"],
    },
)
