"""Predict new images of any kind and number into a folder of masks and tables, without importing torch.

And choose among unlabelled images, which needs torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "annotations": ["annotate"],
        "given_images": ["predict_given"],
        "label_next": ["rank_images"],
        "run": ["OutputSettings", "Result", "predict_folder"],
        "sources": ["find_images", "listed_images"],
        "unlabelled": ["look_at", "pseudo_labels"],
    },
)
