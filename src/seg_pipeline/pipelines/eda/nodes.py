"""Pictures of the data."""

from __future__ import annotations

import pandas as pd

from seg_pipeline import segmentation as seg
from seg_pipeline.params import EdaParams
from seg_pipeline.pipelines import Figure


def plot_samples(manifest: pd.DataFrame, params: EdaParams, seed: int) -> Figure:
    """Random train images with their masks and overlays."""
    return seg.galleries.sample_sheet(manifest, num_images=params.num_samples, seed=seed)


def count_classes(manifest: pd.DataFrame) -> pd.DataFrame:
    """Images that show each class, by split."""
    return seg.manifest.count_classes(manifest)


def plot_class_counts(class_counts: pd.DataFrame) -> Figure:
    """Bars of the class counts."""
    return seg.plotting.plot_class_counts(class_counts)
