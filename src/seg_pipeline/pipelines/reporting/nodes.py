"""Draw the figures of the results, compare two runs, and write the report and the model card.

Any result may be missing because its pipeline has not run. Its input is then None, its figure ``()``, and the report
names the command that produces it.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, ReportingParams
from seg_pipeline.pipelines import DataFrame, Figure

OptionalFigure = Figure | tuple[()]


def _if_available(plot: Callable[..., OptionalFigure]) -> Callable[..., OptionalFigure]:
    """Let a node return ``()`` if its first input is missing or empty."""

    @functools.wraps(plot)
    def plot_or_nothing(result: Any, *others: Any) -> OptionalFigure:
        return () if result is None or getattr(result, "empty", False) else plot(result, *others)

    return plot_or_nothing


@_if_available
def plot_class_scores(test_scores: dict) -> Figure:
    """Bar chart of the scores per class, with confidence intervals."""
    return seg.plotting.plot_class_scores(test_scores)


@_if_available
def plot_object_scores(test_scores: dict) -> OptionalFigure:
    """F1 of the objects against the IoU threshold, if masks are objects."""
    classes = {
        name: class_scores["objects"]
        for name, class_scores in test_scores["classes"].items()
        if "objects" in class_scores
    }
    return seg.plotting.plot_object_scores(classes) if classes else ()


@_if_available
def plot_confusion(confusion: DataFrame, dataset: DatasetParams, test_scores: dict | None = None) -> Figure:
    """Heat map of the confusion matrix."""
    title = f"Confusion matrix of the {(test_scores or {}).get('split', 'test')} split"
    if dataset.task == "multilabel":
        title += "\n(a pixel with two true classes counts in both rows)"
    return seg.plotting.plot_confusion(confusion.to_numpy(), list(confusion.index), title=title)


@_if_available
def plot_predictions(
    image_scores: DataFrame, predictions: DataFrame, manifest: DataFrame, params: ReportingParams
) -> Figure:
    """Contact sheet of test images from worst to best, ground truth beside prediction."""
    number = params.images_per_gallery
    return seg.exploration.prediction_sheet(manifest, predictions, image_scores, num_images=number)


@_if_available
def plot_object_sizes(image_scores: DataFrame, dataset: DatasetParams) -> Figure:
    """Dice against the area of the class in the image."""
    return seg.plotting.plot_object_sizes(image_scores, dataset.names)


@_if_available
def plot_group_scores(group_scores: DataFrame, dataset: DatasetParams) -> OptionalFigure:
    """Dice per group, if there are several."""
    several = group_scores["group"].nunique() > 1
    return seg.plotting.plot_group_scores(group_scores, dataset.names) if several else ()


@_if_available
def plot_thresholds(threshold_curve: DataFrame, postprocessing: dict | None, dataset: DatasetParams) -> OptionalFigure:
    """Dice, precision and recall against the threshold; multilabel only."""
    if dataset.task != "multilabel":
        return ()
    chosen = (postprocessing or {}).get("settings", {}).get("thresholds") or []
    return seg.plotting.plot_thresholds(threshold_curve, dataset.names, dict(zip(dataset.names, chosen, strict=False)))


@_if_available
def plot_reliability(reliability: DataFrame, test_scores: dict | None, dataset: DatasetParams) -> Figure:
    """Reliability curves: observed frequency against predicted probability."""
    errors = ((test_scores or {}).get("calibration") or {}).get("classes", {})
    return seg.plotting.plot_reliability(reliability, dataset.names, errors)


@_if_available
def plot_postprocessing(postprocessing: dict) -> OptionalFigure:
    """Gain of the postprocessing steps that help on validation images."""
    import pandas as pd

    tried = pd.DataFrame(postprocessing["gains"])
    gained = tried if tried.empty else tried.query("dice_after > dice_before")
    return () if gained.empty else seg.plotting.plot_postprocessing_gains(gained)


@_if_available
def plot_prediction_options(prediction_options: DataFrame) -> Figure:
    """Dice and time of each prediction option."""
    return seg.plotting.plot_prediction_options(prediction_options)


def compare_runs(
    manifest: DataFrame, image_scores: DataFrame | None, params: ReportingParams, seed: int
) -> tuple[DataFrame, OptionalFigure]:
    """Paired differences from the run in `compare_with`, and their figure; empty if `compare_with` is null."""
    if params.compare_with is None or image_scores is None:
        return seg.metrics.no_pairs(), ()
    pairs = seg.metrics.pair_scores(manifest, image_scores, *seg.metrics.read_run(Path(params.compare_with)))
    summary = seg.metrics.summarise(pairs, seed=seed)
    return pairs, seg.plotting.plot_comparison(
        summary, title=f"Difference in Dice: this run minus {params.compare_with}"
    )


def write_report(params: ReportingParams, seed: int, **outputs: Any) -> str:
    """Write the report: one HTML file that opens in any browser."""
    if params.compare_with is not None and outputs["image_scores"] is not None:
        outputs["other_predictions"] = seg.metrics.read_predictions(Path(params.compare_with), outputs["image_scores"])
    results = seg.report.Results.from_outputs(outputs)
    return seg.report.report_page(
        results,
        params.model_card,
        phantom=params.phantom is not None,
        images_per_gallery=params.images_per_gallery,
        other=params.compare_with,
        seed=seed,
    )


def write_model_card(params: ReportingParams, **outputs: Any) -> str:
    """Write the model card (Markdown) for the users of the model."""
    results = seg.report.Results.from_outputs(outputs)
    return seg.report.model_card(results, params.model_card, phantom=params.phantom is not None)
