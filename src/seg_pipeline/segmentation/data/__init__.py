"""Turn the manifest into batches: decoding, cache, augmentation, normalisation, sampling, loaders."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "loaders": ["make_loaders"],
        "memory": ["estimate_memory", "free_disk", "free_ram", "format_bytes"],
    },
)
