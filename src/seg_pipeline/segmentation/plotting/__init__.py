"""Figures of the data, the training and the scores.

Every function takes plain data, leaves it as it is, and returns a ``matplotlib.figure.Figure`` of its
own: nothing goes through pyplot, so that figures may be drawn in threads and are freed with their last
reference. Saving is the caller's part: ``figure.savefig(path)``.
"""

from seg_pipeline.segmentation.plotting.bars import plot_class_counts, plot_class_scores
from seg_pipeline.segmentation.plotting.colouring import overlay
from seg_pipeline.segmentation.plotting.confusion import plot_confusion
from seg_pipeline.segmentation.plotting.curves import plot_history, plot_learning_rates
from seg_pipeline.segmentation.plotting.sheets import plot_predictions, plot_samples
from seg_pipeline.segmentation.plotting.style import FONT_SIZE, class_colours

__all__ = [
    "FONT_SIZE",
    "class_colours",
    "overlay",
    "plot_class_counts",
    "plot_class_scores",
    "plot_confusion",
    "plot_history",
    "plot_learning_rates",
    "plot_predictions",
    "plot_samples",
]
