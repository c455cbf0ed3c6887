"""What the other pipelines left -> figures, a comparison, the report and the model card.

Any of it may be missing: its input is then None, its figure ``()``, and the report says which command makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seg_pipeline import segmentation as seg
from seg_pipeline.params import DatasetParams, ReportingParams
from seg_pipeline.pipelines import DataFrame, Figure

Drawn = Figure | tuple[()]


def plot_class_scores(test_scores: dict | None) -> Drawn:
    """Bars by class, with intervals."""
    return _drawn(seg.plotting.plot_class_scores, test_scores)


def plot_confusion(confusion: DataFrame | None, dataset: DatasetParams) -> Drawn:
    """Heat map of the confusion matrix."""
    title = "Confusion matrix of the test split"
    if dataset.task == "multilabel":
        title += "\n(a pixel of two classes counts in the row of each)"
    return _drawn(
        lambda table: seg.plotting.plot_confusion(table.to_numpy(), list(table.index), title=title), confusion
    )


def plot_predictions(
    manifest: DataFrame,
    predictions: DataFrame | None,
    image_scores: DataFrame | None,
    params: ReportingParams,
) -> Drawn:
    """Test images from the worst to the best, truth beside prediction."""
    return _drawn(
        lambda guesses, scores: seg.exploration.prediction_sheet(
            manifest, guesses, scores, num_images=params.images_per_gallery
        ),
        predictions,
        image_scores,
    )


def plot_object_sizes(image_scores: DataFrame | None, dataset: DatasetParams) -> Drawn:
    """Dice over the area of the class in the image."""
    return _drawn(lambda rows: seg.plotting.plot_object_sizes(rows, dataset.names), image_scores)


def plot_groups(group_scores: DataFrame | None, dataset: DatasetParams) -> Drawn:
    """Dice of each group, where there are several."""
    several = group_scores is not None and group_scores["group"].nunique() > 1
    return _drawn(lambda rows: seg.plotting.plot_group_scores(rows, dataset.names), group_scores if several else None)


def plot_thresholds(threshold_curve: DataFrame | None, postprocessing: dict | None, dataset: DatasetParams) -> Drawn:
    """Dice, precision and recall over the threshold; multilabel only."""
    curve = threshold_curve if dataset.task == "multilabel" else None
    chosen = (postprocessing or {}).get("settings", {}).get("thresholds") or []
    in_use = dict(zip(dataset.names, chosen, strict=False))
    return _drawn(lambda rows: seg.plotting.plot_thresholds(rows, dataset.names, in_use), curve)


def plot_reliability(reliability: DataFrame | None, test_scores: dict | None, dataset: DatasetParams) -> Drawn:
    """How often pixels of each predicted probability are right."""
    errors = ((test_scores or {}).get("calibration") or {}).get("classes", {})
    return _drawn(lambda rows: seg.plotting.plot_reliability(rows, dataset.names, errors), reliability)


def plot_postprocessing(postprocessing: dict | None) -> Drawn:
    """Steps of postprocessing that gain on validation images."""
    import pandas as pd

    tried = pd.DataFrame((postprocessing or {}).get("gains", []))
    return _drawn(seg.plotting.plot_gains, tried if tried.empty else tried.query("dice_after > dice_before"))


def plot_options(prediction_options: DataFrame | None) -> Drawn:
    """Gain and cost of each way to predict."""
    return _drawn(seg.plotting.plot_options, prediction_options)


def compare_runs(
    manifest: DataFrame, image_scores: DataFrame | None, params: ReportingParams, seed: int
) -> tuple[DataFrame, Drawn]:
    """Paired differences to the run of `compare_with`, and their figure; an empty table where there is none."""
    if params.compare_with is None or image_scores is None:
        return seg.metrics.no_pairs(), ()
    pairs = seg.metrics.pair_scores(manifest, image_scores, *seg.metrics.read_run(Path(params.compare_with)))
    summary = seg.metrics.summarise(pairs, seed=seed)
    return pairs, seg.plotting.plot_comparison(summary, title=f"This run less {params.compare_with}")


def write_report(params: ReportingParams, seed: int, **found: Any) -> str:
    """One page that opens in any browser."""
    results = seg.report.Results.of(found)
    return seg.report.report_page(
        results,
        params.model_card,
        phantom=params.phantom is not None,
        images_per_gallery=params.images_per_gallery,
        other=params.compare_with,
        seed=seed,
    )


def write_model_card(params: ReportingParams, **found: Any) -> str:
    """Markdown, for whoever gets the model."""
    results = seg.report.Results.of(found)
    return seg.report.model_card(results, params.model_card, phantom=params.phantom is not None)


def _drawn(plot: Callable[..., Figure], *found: Any) -> Drawn:
    """The figure, or ``()`` where something that it needs is missing or empty."""
    missing = any(one is None or (getattr(one, "empty", False)) for one in found)
    return () if missing else plot(*found)
