"""Groups of settings with their bounds: for training, search, figures and the model card."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "training_config": ["FROM_SEARCH", "TrainingConfig", "with_search"],
    },
)
