"""Read one file into one array: decoding, masks in all formats that data sets use, fingerprints of contents."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "decoding": ["read_image"],
        "masks": ["decode_rle", "encode_rle"],
    },
)
