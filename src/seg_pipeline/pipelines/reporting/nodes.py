"""Draw the figures of the results, compare two runs, and write the report and the model card.

Any result may be missing because its pipeline has not run. Its input is then None, its figure ``()``, and the report
names the command that produces it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, ReportingParams
from seg_pipeline.pipelines import DataFrame, Figure

OptionalFigure = Figure | tuple[()]


def plot_class_scores(test_scores: dict | None) -> OptionalFigure:
    """Bar chart of the scores per class, with confidence intervals."""
    return _plot_if_available(seg.plotting.plot_class_scores, test_scores)


def plot_confusion(confusion: DataFrame | None, dataset: DatasetParams) -> OptionalFigure:
    """Heat map of the confusion matrix."""
    title = "Confusion matrix of the test split"
    if dataset.task == "multilabel":
        title += "\n(a pixel with two true classes counts in both rows)"
    return _plot_if_available(
        lambda table: seg.plotting.plot_confusion(table.to_numpy(), list(table.index), title=title), confusion
    )


def plot_predictions(
    manifest: DataFrame,
    predictions: DataFrame | None,
    image_scores: DataFrame | None,
    params: ReportingParams,
) -> OptionalFigure:
    """Contact sheet of test images from worst to best, ground truth beside prediction."""
    return _plot_if_available(
        lambda guesses, scores: seg.exploration.prediction_sheet(
            manifest, guesses, scores, num_images=params.images_per_gallery
        ),
        predictions,
        image_scores,
    )


def plot_object_sizes(image_scores: DataFrame | None, dataset: DatasetParams) -> OptionalFigure:
    """Dice against the area of the class in the image."""
    return _plot_if_available(lambda rows: seg.plotting.plot_object_sizes(rows, dataset.names), image_scores)


def plot_group_scores(group_scores: DataFrame | None, dataset: DatasetParams) -> OptionalFigure:
    """Dice per group, if there are several."""
    several = group_scores is not None and group_scores["group"].nunique() > 1
    return _plot_if_available(
        lambda rows: seg.plotting.plot_group_scores(rows, dataset.names), group_scores if several else None
    )


def plot_thresholds(
    threshold_curve: DataFrame | None, postprocessing: dict | None, dataset: DatasetParams
) -> OptionalFigure:
    """Dice, precision and recall against the threshold; multilabel only."""
    curve = threshold_curve if dataset.task == "multilabel" else None
    chosen = (postprocessing or {}).get("settings", {}).get("thresholds") or []
    in_use = dict(zip(dataset.names, chosen, strict=False))
    return _plot_if_available(lambda rows: seg.plotting.plot_thresholds(rows, dataset.names, in_use), curve)


def plot_reliability(reliability: DataFrame | None, test_scores: dict | None, dataset: DatasetParams) -> OptionalFigure:
    """Reliability curves: observed frequency against predicted probability."""
    errors = ((test_scores or {}).get("calibration") or {}).get("classes", {})
    return _plot_if_available(lambda rows: seg.plotting.plot_reliability(rows, dataset.names, errors), reliability)


def plot_postprocessing(postprocessing: dict | None) -> OptionalFigure:
    """Postprocessing steps that gain on validation images."""
    import pandas as pd

    tried = pd.DataFrame((postprocessing or {}).get("gains", []))
    return _plot_if_available(
        seg.plotting.plot_postprocessing_gains, tried if tried.empty else tried.query("dice_after > dice_before")
    )


def plot_prediction_options(prediction_options: DataFrame | None) -> OptionalFigure:
    """Dice and time of each prediction option."""
    return _plot_if_available(seg.plotting.plot_prediction_options, prediction_options)


def compare_runs(
    manifest: DataFrame, image_scores: DataFrame | None, params: ReportingParams, seed: int
) -> tuple[DataFrame, OptionalFigure]:
    """Paired differences from the run in `compare_with`, and their figure; an empty table if there is no such run."""
    if params.compare_with is None or image_scores is None:
        return seg.metrics.no_pairs(), ()
    pairs = seg.metrics.pair_scores(manifest, image_scores, *seg.metrics.read_run(Path(params.compare_with)))
    summary = seg.metrics.summarise(pairs, seed=seed)
    return pairs, seg.plotting.plot_comparison(
        summary, title=f"Difference in Dice: this run minus {params.compare_with}"
    )


def write_report(params: ReportingParams, seed: int, **found: Any) -> str:
    """Write the report: one HTML file that opens in any browser."""
    results = seg.report.Results.from_outputs(found)
    return seg.report.report_page(
        results,
        params.model_card,
        phantom=params.phantom is not None,
        images_per_gallery=params.images_per_gallery,
        other=params.compare_with,
        seed=seed,
    )


def write_model_card(params: ReportingParams, **found: Any) -> str:
    """Write the model card (Markdown) for the users of the model."""
    results = seg.report.Results.from_outputs(found)
    return seg.report.model_card(results, params.model_card, phantom=params.phantom is not None)


def _plot_if_available(plot: Callable[..., Figure], *found: Any) -> OptionalFigure:
    """The figure, or ``()`` if something that it needs is missing or empty."""
    missing = any(one is None or (getattr(one, "empty", False)) for one in found)
    return () if missing else plot(*found)
