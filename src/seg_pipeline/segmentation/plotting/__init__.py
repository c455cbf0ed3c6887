"""Figures of the data, the training and the scores.

Every function takes plain data, does not modify it, and returns a new ``matplotlib.figure.Figure``. Nothing goes
through pyplot, so figures can be drawn in threads and are freed once nothing refers to them. The caller saves them:
``figure.savefig(path)``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bar_charts": ["plot_class_counts", "plot_class_scores", "plot_memory"],
        "class_panels": ["plot_area_differences", "plot_object_sizes", "plot_reliability", "plot_thresholds"],
        "confusion": ["plot_confusion"],
        "contact_sheets": ["plot_augmentations", "plot_predictions", "plot_samples"],
        "curves": ["plot_history", "plot_object_scores", "plot_overfit"],
        "dot_charts": ["plot_comparison", "plot_group_scores", "plot_postprocessing_gains", "plot_prediction_options"],
        "overlays": ["overlay", "overlay_prediction", "resized"],
        "style": ["class_colours"],
    },
)
