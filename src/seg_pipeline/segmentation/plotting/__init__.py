"""Figures of the data, the training and the scores.

Every function takes plain data, does not modify it, and returns a new ``matplotlib.figure.Figure``. Nothing goes
through pyplot, so figures can be drawn in threads and are freed with their last reference. The caller saves them:
``figure.savefig(path)``.
"""

from seg_pipeline.segmentation.plotting.bar_charts import plot_class_counts, plot_class_scores
from seg_pipeline.segmentation.plotting.class_panels import plot_object_sizes, plot_reliability, plot_thresholds
from seg_pipeline.segmentation.plotting.confusion import plot_confusion
from seg_pipeline.segmentation.plotting.contact_sheets import plot_augmentations, plot_predictions, plot_samples
from seg_pipeline.segmentation.plotting.curves import plot_history, plot_overfit
from seg_pipeline.segmentation.plotting.dot_charts import (
    plot_comparison,
    plot_group_scores,
    plot_postprocessing_gains,
    plot_prediction_options,
)
from seg_pipeline.segmentation.plotting.memory import plot_memory
from seg_pipeline.segmentation.plotting.overlay import overlay, overlay_prediction, resized
from seg_pipeline.segmentation.plotting.style import class_colours

__all__ = [
    "class_colours",
    "overlay",
    "overlay_prediction",
    "plot_augmentations",
    "plot_class_counts",
    "plot_class_scores",
    "plot_comparison",
    "plot_confusion",
    "plot_group_scores",
    "plot_history",
    "plot_memory",
    "plot_object_sizes",
    "plot_overfit",
    "plot_postprocessing_gains",
    "plot_prediction_options",
    "plot_predictions",
    "plot_reliability",
    "plot_samples",
    "plot_thresholds",
    "resized",
]
