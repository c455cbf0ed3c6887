"""Predict any number of new images into a folder of masks and tables, without importing torch.

Also choose which unlabelled images to label next, which needs torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "annotations": ["annotate"],
        "label_next": ["rank_images"],
        "new_images": ["predict_new_images"],
        "run": ["OutputSettings", "Result", "predict_folder"],
        "sources": ["find_images", "listed_images"],
        "unlabelled": ["describe_images", "pseudo_labels"],
    },
)
