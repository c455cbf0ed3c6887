"""Explore the data set: tables, figures, contact sheets and an animation."""

import logging
from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, EdaParams, TrainingParams, make_training_config
from seg_pipeline.pipelines import DataFrame, Figure, ndarray
from seg_pipeline.segmentation.settings.training import ScoreSettings

log = logging.getLogger(__name__)


def tabulate_images(manifest: DataFrame, params: EdaParams) -> DataFrame:
    """The manifest without masks: one row per image, from which most figures are drawn."""
    return seg.exploration.image_table(manifest, day_pattern=params.day_pattern)


def select_images(manifest: DataFrame, params: EdaParams, seed: int) -> tuple[DataFrame, DataFrame, DataFrame]:
    """Select the images whose pixels are read: samples to show, a random sample to measure, and one series."""
    shown = seg.exploration.pick_samples(
        manifest,
        number=params.num_samples,
        selection=params.sample_selection,
        image_ids=params.sample_ids,
        seed=seed,
    )
    measured = seg.exploration.draw_random_rows(manifest, number=params.max_images, seed=seed)
    animation = params.animation
    series = seg.exploration.pick_series(manifest, series=animation.series, max_frames=animation.max_frames)
    return shown, measured, series


def plot_samples(sample_rows: DataFrame, params: EdaParams) -> Figure:
    """Contact sheet of sample images with their masks."""
    named = f"{len(params.sample_ids)} named, others " if params.sample_ids else ""
    return seg.exploration.sample_sheet(sample_rows, note=f"{named}{params.sample_selection}")


def plot_augmentations(
    sample_rows: DataFrame, dataset: DatasetParams, scores: ScoreSettings, training: TrainingParams, seed: int
) -> Figure:
    """Contact sheet of one sample under each augmentation preset."""
    return seg.exploration.augmentation_sheet(sample_rows, make_training_config(dataset, scores, training, seed))


def animate_series(series_rows: DataFrame, params: EdaParams) -> tuple[ndarray | tuple[()], ndarray | tuple[()]]:
    """Frames of the series, once per file format: Kedro saves each output of a node to one data set.

    There are none if the data has no series of several frames.
    """
    if len(series_rows) < 2:
        return (), ()
    frames = seg.exploration.draw_series(series_rows, max_side=params.animation.max_side)
    return frames, frames


def count_classes(manifest: DataFrame) -> DataFrame:
    """Count the images that show each class, per split."""
    return seg.manifest.count_classes(manifest)


def plot_class_counts(class_counts: DataFrame) -> Figure:
    """Bar chart of the class counts."""
    return seg.plotting.plot_class_counts(class_counts)


def plot_class_overview(images: DataFrame, params: EdaParams) -> Figure:
    """Co-occurrence, absence, area and objects of the classes."""
    return seg.exploration.class_overview(images, max_classes=params.max_classes)


def measure_pixels(pixel_rows: DataFrame, params: EdaParams) -> DataFrame:
    """Measure intensities per class and per group."""
    names, _ = seg.exploration.top_classes(pixel_rows, params.max_classes)
    return seg.exploration.measure_intensities(pixel_rows, names)


def plot_image_overview(images: DataFrame, intensities: DataFrame) -> Figure:
    """Sizes and intensities of the images."""
    return seg.exploration.image_overview(images, intensities)


def plot_class_locations(pixel_rows: DataFrame, images: DataFrame, params: EdaParams) -> Figure:
    """Map how often each class occurs at each position."""
    return seg.exploration.class_locations(pixel_rows, num_images=len(images), max_classes=params.max_classes)


def plot_series_overview(images: DataFrame, params: EdaParams) -> Figure | tuple[()]:
    """Class frequency along the series and by day, if a series has several frames."""
    if not images["series"].duplicated().any():
        return ()
    return seg.exploration.series_overview(images, max_classes=params.max_classes)


def plot_point_chart(images: DataFrame, params: EdaParams, seed: int) -> object:
    """Interactive chart (Plotly) with one point per image."""
    return seg.exploration.point_chart(images, max_points=params.max_points, seed=seed)


def compare_splits(images: DataFrame) -> DataFrame:
    """Measure how much each quantity differs between splits."""
    report = seg.exploration.compare_splits(images)
    log.info("largest difference between splits: %s", seg.exploration.describe_difference(report))
    return report


def plot_split_comparison(images: DataFrame, split_report: DataFrame, params: EdaParams) -> Figure:
    """Classes per split, and the largest differences."""
    return seg.exploration.split_comparison(images, split_report, max_classes=params.max_classes)


def estimate_memory(images: DataFrame, dataset: DatasetParams, training: TrainingParams, pixel_cache: Path) -> dict:
    """Estimate the memory of the decoded data, and compare it with what is free on this machine."""
    estimate = seg.data.estimate_memory(
        images,
        training.input,
        task=dataset.task,
        num_classes=len(seg.exploration.measured_classes(images)),
        mode=training.compute.cache,
        free_ram=seg.data.free_ram(),
        free_disk=seg.data.free_disk(pixel_cache),
        objects=dataset.objects,
    )
    log.info("memory: %s", estimate["cache"]["advice"])
    return estimate


def plot_memory(memory_estimate: dict) -> Figure:
    """Chart of the memory estimate."""
    return seg.plotting.plot_memory(memory_estimate, seg.data.format_bytes)


def make_data_set_page(
    images: DataFrame, class_counts: DataFrame, memory_estimate: dict, **figures: bytes | None
) -> str:
    """One page with all figures except the interactive one. ``figures`` are image files by data set name."""
    return seg.report.data_set_page(images, class_counts, memory_estimate, figures)
