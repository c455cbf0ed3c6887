"""Figures of the data, the training and the scores.

Every function takes plain data, leaves it as it is, and returns a ``matplotlib.figure.Figure`` of its
own: nothing goes through pyplot, so that figures may be drawn in threads and are freed with their last
reference. Saving is the caller's part: ``figure.savefig(path)``.
"""

from seg_pipeline.segmentation.plotting.bar_charts import plot_class_counts, plot_class_scores
from seg_pipeline.segmentation.plotting.class_panels import plot_object_sizes, plot_reliability, plot_thresholds
from seg_pipeline.segmentation.plotting.class_statistics import plot_classes, plot_splits
from seg_pipeline.segmentation.plotting.confusion import plot_confusion
from seg_pipeline.segmentation.plotting.contact_sheets import plot_augmentations, plot_predictions, plot_samples
from seg_pipeline.segmentation.plotting.curves import plot_history
from seg_pipeline.segmentation.plotting.prediction_overlay import against_truth, resized
from seg_pipeline.segmentation.plotting.image_distributions import plot_class_locations, plot_images, plot_series
from seg_pipeline.segmentation.plotting.interactive import plot_points
from seg_pipeline.segmentation.plotting.memory import plot_memory
from seg_pipeline.segmentation.plotting.overlay import overlay
from seg_pipeline.segmentation.plotting.dot_charts import plot_comparison, plot_gains, plot_group_scores, plot_options
from seg_pipeline.segmentation.plotting.search import (
    plot_crossed,
    plot_importances,
    plot_overfit,
    plot_trials,
)
from seg_pipeline.segmentation.plotting.style import class_colours

__all__ = [
    "against_truth",
    "class_colours",
    "overlay",
    "plot_augmentations",
    "plot_class_counts",
    "plot_class_locations",
    "plot_class_scores",
    "plot_classes",
    "plot_comparison",
    "plot_confusion",
    "plot_crossed",
    "plot_gains",
    "plot_group_scores",
    "plot_history",
    "plot_images",
    "plot_importances",
    "plot_memory",
    "plot_object_sizes",
    "plot_options",
    "plot_overfit",
    "plot_points",
    "plot_predictions",
    "plot_reliability",
    "plot_samples",
    "plot_series",
    "plot_splits",
    "plot_thresholds",
    "plot_trials",
    "resized",
]
