"""What the data holds, in tables and pictures."""

from __future__ import annotations

import logging
from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, EdaParams, TrainingParams, make_training_config
from seg_pipeline.pipelines import DataFrame, Figure, ndarray
from seg_pipeline.segmentation.settings.training import ScoreSettings

log = logging.getLogger(__name__)


def tabulate_images(manifest: DataFrame, params: EdaParams) -> DataFrame:
    """Numbers of each image, without its masks: what all figures but the pictures are made of."""
    return seg.exploration.image_table(manifest, day_pattern=params.day_pattern)


def select_images(manifest: DataFrame, params: EdaParams, seed: int) -> tuple[DataFrame, DataFrame, DataFrame]:
    """The images whose pixels are read: samples to show, a random sample to measure, one series."""
    shown = seg.exploration.pick_samples(
        manifest,
        number=params.num_samples,
        selection=params.sample_selection,
        image_ids=params.sample_ids,
        seed=seed,
    )
    measured = seg.exploration.draw_rows(manifest, number=params.max_images, seed=seed)
    animation = params.animation
    series = seg.exploration.pick_series(manifest, series=animation.series, max_frames=animation.max_frames)
    return shown, measured, series


def plot_samples(sample_rows: DataFrame, params: EdaParams) -> Figure:
    """Images with their masks and overlays."""
    named = f"{len(params.sample_ids)} named, others " if params.sample_ids else ""
    return seg.exploration.sample_sheet(sample_rows, note=f"{named}{params.sample_selection}")


def plot_augmentations(
    sample_rows: DataFrame, dataset: DatasetParams, scores: ScoreSettings, training: TrainingParams, seed: int
) -> Figure:
    """One of the samples as training may see it."""
    return seg.exploration.augmentation_sheet(sample_rows, make_training_config(dataset, scores, training, seed))


def animate_series(series_rows: DataFrame, params: EdaParams) -> tuple[ndarray, ndarray]:
    """The pictures twice: for GIF and for MP4."""
    frames = seg.exploration.draw_series(series_rows, max_side=params.animation.max_side)
    return frames, frames


def count_classes(manifest: DataFrame) -> DataFrame:
    """Images that show each class, by split."""
    return seg.manifest.count_classes(manifest)


def plot_class_counts(class_counts: DataFrame) -> Figure:
    """Bars of the class counts."""
    return seg.plotting.plot_class_counts(class_counts)


def plot_classes(images: DataFrame, params: EdaParams) -> Figure:
    """Classes together, absent, by area and objects."""
    return seg.exploration.class_overview(images, max_classes=params.max_classes)


def measure_pixels(pixel_rows: DataFrame, params: EdaParams) -> DataFrame:
    """Intensities by class and group."""
    names, _ = seg.exploration.top_classes(pixel_rows, params.max_classes)
    return seg.exploration.measure_intensities(pixel_rows, names)


def plot_images(images: DataFrame, intensities: DataFrame) -> Figure:
    """Sizes and intensities."""
    return seg.exploration.image_overview(images, intensities)


def plot_class_locations(pixel_rows: DataFrame, images: DataFrame, params: EdaParams) -> Figure:
    """Where in the image each class lies."""
    return seg.exploration.class_locations(pixel_rows, num_images=len(images), max_classes=params.max_classes)


def plot_series(images: DataFrame, params: EdaParams) -> Figure:
    """Classes along series and over days."""
    return seg.exploration.series_overview(images, max_classes=params.max_classes)


def plot_points(images: DataFrame, params: EdaParams, seed: int) -> object:
    """Plotly: a point an image."""
    return seg.exploration.point_chart(images, max_points=params.max_points, seed=seed)


def compare_splits(images: DataFrame) -> DataFrame:
    """How much each quantity differs between splits."""
    report = seg.exploration.compare_splits(images)
    log.info("largest difference between splits: %s", seg.exploration.describe_difference(report))
    return report


def plot_splits(images: DataFrame, split_report: DataFrame, params: EdaParams) -> Figure:
    """Classes by split, and the largest differences."""
    return seg.exploration.split_comparison(images, split_report, max_classes=params.max_classes)


def estimate_memory(images: DataFrame, dataset: DatasetParams, training: TrainingParams) -> dict:
    """Bytes of the decoded data, beside what this machine has free."""
    estimate = seg.data.estimate_memory(
        images,
        training.input,
        task=dataset.task,
        num_classes=len(seg.exploration.measured_classes(images)),
        mode=training.compute.cache,
        free_ram=seg.data.free_ram(),
        free_disk=seg.data.free_disk(Path.cwd()),
    )
    log.info("memory: %s", estimate["cache"]["advice"])
    return estimate


def plot_memory(memory_estimate: dict) -> Figure:
    """Bars of the estimate."""
    return seg.plotting.plot_memory(memory_estimate, seg.data.readable)
