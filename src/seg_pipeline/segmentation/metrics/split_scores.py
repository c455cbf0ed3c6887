"""Scores of predictions against the ground truth at native resolution: overall, per class, image, group, series."""

import logging
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED, class_names
from seg_pipeline.segmentation.metrics import centrelines, object_scores, overlap
from seg_pipeline.segmentation.metrics.aggregation import SCORES, Aggregator, defined_mean, image_values
from seg_pipeline.segmentation.metrics.calibration import expected_error, last_probabilities
from seg_pipeline.segmentation.metrics.confidence_intervals import FEW_GROUPS
from seg_pipeline.segmentation.metrics.counting import SeriesCounts, count_images, count_volumes, unit_of
from seg_pipeline.segmentation.metrics.overlap import ImageCounts
from seg_pipeline.segmentation.metrics.summary import plain, summary, table_by
from seg_pipeline.segmentation.metrics.uw_madison import VARIANTS, competition_score
from seg_pipeline.segmentation.settings.training import Aggregation, EmptyPolicy, MeasureSettings, ScoreSettings

log = logging.getLogger(__name__)

BACKGROUND = "background"

AGGREGATIONS: tuple[Aggregation, ...] = ("image", "dataset")
OVERLAP_SCORES = ("dice", "iou")
VOLUME_SCORES = ("dice", "hd95", "surface_dice")


def scored_rows(manifest: pd.DataFrame) -> pd.DataFrame:
    """The images to score: the test split, or the validation split if there is no test split.

    The scores name the split. They are optimistic on the validation split, where epoch and postprocessing were chosen.

    Raises:
        ValueError: both are empty.
    """
    for split in ("test", "val"):
        rows = manifest[manifest["split"] == split]
        if len(rows):
            return rows
        scored = ", so the validation split is scored, too well: epoch and postprocessing were chosen on it"
        log.warning("the %s split is empty%s", split, scored if split == "test" else "")
    raise ValueError(
        "no image to score: the test and the validation split are empty; set `data_processing.split.shares.test` or "
        "`val` above 0, or put images into them, and run data_processing again"
    )


class Scored(NamedTuple):
    scores: dict
    """Plain values, None if undefined; both aggregations under "by_aggregation". See docs/reference/scores.md."""
    images: pd.DataFrame
    """One row per image and class: scores (missing if both masks are empty), pixel counts, largest probability."""
    groups: pd.DataFrame
    """One row per group and class: Dice and IoU."""
    series: pd.DataFrame
    """One row per series and class: Dice, IoU, and the scores of its volume (missing if its images form none)."""
    confusion: pd.DataFrame
    """Pixels by true class (rows) and predicted class (columns), as in ``overlap.confusion``."""


def score_predictions(
    rows: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    scores: ScoreSettings,
    measures: MeasureSettings,
    seed: int,
    reliability: pd.DataFrame | None = None,
    workers: int | None = None,
) -> Scored:
    """Compute all scores of a split.

    Args:
        rows: manifest rows to score; each must have a prediction.
        predictions: one row per image: image_id and mask_<class> as in the manifest, and peak_<class>, the largest
            probability.
        scores: empty policy, and the aggregation of the scores at the top level of the result.
        measures: tolerance, boundary width, spacing across frames, confidence level of the intervals.
        seed: seed of the bootstrap.
        reliability: ``calibration.before_and_after`` of the same predictions; None leaves out the calibration error.
        workers: number of threads, which does not affect the result; None: one per core.

    Raises:
        ValueError: the two tables have different classes or image ids, or ``refuse_partial`` raises it.
    """
    names, truth = class_names(rows), matching_rows(rows, predictions)
    refuse_partial(rows, scores.empty_policy)
    counts, confusion = count_images(truth, predictions, names, measures=measures, workers=workers)
    volumes = count_volumes(truth, predictions, names, counts, measures=measures, workers=workers)
    aggregator = Aggregator.from_settings(scores, measures, seed)
    by_aggregation = {
        kind: _of_images(counts, truth, names, aggregator._replace(aggregation=kind), measures) for kind in AGGREGATIONS
    }
    objects = object_scores.count_split(truth, predictions, names, workers=workers)
    if objects is not None:
        for kind, scores_of_kind in by_aggregation.items():
            _add_objects(scores_of_kind, objects, truth, aggregator._replace(aggregation=kind), measures)
    lines = centrelines.score_split(truth, predictions, names, workers=workers) if measures.cldice else None
    if lines is not None:
        for scores_of_kind in by_aggregation.values():
            centrelines.add(scores_of_kind, lines, truth["group"], aggregator, measures.confidence)
    all_scores = {
        **by_aggregation[scores.aggregation],
        **_about(truth, scores, measures),
        "pixel_accuracy": overlap.pixel_accuracy(counts.overlap),
        "calibration": _calibration(reliability),
        "volumes": _of_volumes(volumes, names, aggregator, measures.confidence),
        "competition": _competition(counts, volumes) if measures.competition else None,
        "by_aggregation": by_aggregation,
    }
    if "source" in truth:
        all_scores["by_source"] = {
            name: _of_images(counts.of_images(np.flatnonzero(rows)), truth[rows], names, aggregator, measures)
            for name in truth["source"].unique()
            for rows in [(truth["source"] == name).to_numpy()]
        }
    labels = [*names, BACKGROUND]
    return Scored(
        all_scores,
        _by_image(truth, predictions, counts, names, objects, lines),
        table_by(counts, names, truth["group"], scores=OVERLAP_SCORES, aggregator=aggregator),
        _by_series(
            table_by(counts, names, truth["series"], scores=OVERLAP_SCORES, aggregator=aggregator),
            names,
            volumes,
            aggregator,
        ),
        pd.DataFrame(confusion.numpy(), index=labels, columns=labels),
    )


def _of_images(
    counts: ImageCounts, truth: pd.DataFrame, names: list[str], aggregator: Aggregator, measures: MeasureSettings
) -> dict:
    return summary(counts, names, truth["group"], scores=SCORES, aggregator=aggregator, confidence=measures.confidence)


def _add_objects(
    scores: dict,
    objects: object_scores.ObjectCounts,
    truth: pd.DataFrame,
    aggregator: Aggregator,
    measures: MeasureSettings,
) -> None:
    """Add scores by object under "objects", over all classes and per class."""
    names = list(scores["classes"])
    scores["objects"], class_scores = object_scores.summary(
        objects, names, truth["group"], aggregator=aggregator, confidence=measures.confidence
    )
    for name, object_scores_of_class in class_scores.items():
        scores["classes"][name]["objects"] = object_scores_of_class


def refuse_partial(rows: pd.DataFrame, policy: EmptyPolicy) -> None:
    """Raise ValueError if a class that is not annotated in some image would count as correctly absent, or wrong."""
    if policy == "skip":
        return
    for name in class_names(rows):
        if missing := int((rows[f"mask_{name}"] == NOT_ANNOTATED).sum()):
            raise ValueError(
                f"{name} is not annotated in {missing} of {len(rows)} images, which `scores.empty_policy: {policy}` "
                "would score as if it were absent from them; set `scores.empty_policy: skip`"
            )


def matching_rows(rows: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Manifest rows in the order of the predictions.

    Raises:
        ValueError: the two tables have different classes or image ids.
    """
    found, expected = class_names(predictions), class_names(rows)
    if found != expected:
        raise ValueError(f"the predictions have the classes {found}, the manifest has {expected}; predict again")
    lost = set(predictions["image_id"]) ^ set(rows["image_id"])
    if lost:
        raise ValueError(
            f"{len(lost)} images are only in the predictions, or only among the images to score "
            f"({', '.join(sorted(lost)[:3])}); predict again"
        )
    return predictions[["image_id"]].merge(rows, on="image_id", validate="one_to_one")


def _about(truth: pd.DataFrame, scores: ScoreSettings, measures: MeasureSettings) -> dict:
    """Settings and sizes needed to read the scores."""
    num_groups, split = truth["group"].nunique(), truth["split"].iloc[0]
    if num_groups < FEW_GROUPS:
        log.warning(
            "the %s split has %d group%s, too few to show how much groups differ: intervals are unreliable",
            split,
            num_groups,
            "s" * (num_groups > 1),
        )
    return {
        "split": split,
        "aggregation": scores.aggregation,
        "empty_policy": scores.empty_policy,
        "num_images": len(truth),
        "num_groups": num_groups,
        "few_groups": num_groups < FEW_GROUPS,
        "confidence": measures.confidence,
        "distance_unit": unit_of(truth),
        "tolerance": measures.tolerance,
        "boundary_width": measures.boundary_width,
    }


def _calibration(reliability: pd.DataFrame | None) -> dict | None:
    if reliability is None:
        return None
    result: dict[str, Any] = {}
    for suffix, rows in (("", last_probabilities(reliability)), ("_before", reliability[~reliability["calibrated"]])):
        errors = expected_error(rows)
        result[f"ece{suffix}"] = plain(defined_mean(np.array(list(errors.values()))))
        result[f"classes{suffix}"] = {name: plain(value) for name, value in errors.items()}
    return result


def _of_volumes(
    volumes: SeriesCounts | None, names: list[str], aggregator: Aggregator, confidence: float
) -> dict | None:
    if volumes is None:
        return None
    per_image = aggregator._replace(aggregation="image")
    groups = volumes.rows["group"]
    scores = summary(volumes.counts, names, groups, scores=VOLUME_SCORES, aggregator=per_image, confidence=confidence)
    for class_scores in scores["classes"].values():
        class_scores["num_series"] = class_scores.pop("num_images")
    missing = int(volumes.rows["num_missing"].sum())
    return {**scores, "num_series": len(volumes.rows), "num_missing_frames": missing, "distance_unit": "mm"}


def _competition(counts: ImageCounts, volumes: SeriesCounts | None) -> dict | None:
    if volumes is None:
        return None
    dice = image_values(counts, "dice", empty_policy="skip")
    truth_empty = (counts.true_pos + counts.false_neg == 0).numpy()
    merged = [series_volumes[-1] for series_volumes in volumes.volumes]
    by_class = [volume for series_volumes in volumes.volumes for volume in series_volumes[:-1]]
    return {
        name: plain(competition_score(dice, truth_empty, merged if rules.merged else by_class, rules))
        for name, rules in VARIANTS.items()
    }


def _by_image(
    truth: pd.DataFrame,
    predictions: pd.DataFrame,
    counts: ImageCounts,
    names: list[str],
    objects: object_scores.ObjectCounts | None,
    lines: np.ndarray | None,
) -> pd.DataFrame:
    values = {score: image_values(counts, score, empty_policy="skip") for score in SCORES}
    values |= {} if lines is None else {"cldice": lines}
    pixels = {name: getattr(counts, name).numpy() for name in ("true_pos", "false_pos", "false_neg")}
    pixels["truth_area"] = pixels["true_pos"] + pixels["false_neg"]
    pixels["predicted_area"] = pixels["true_pos"] + pixels["false_pos"]
    parts = [
        truth[["image_id", "group", "series"]].assign(
            **{"class": name},
            **{column: column_values[:, index] for column, column_values in (values | pixels).items()},
            peak=predictions[f"peak_{name}"].to_numpy(),
        )
        for index, name in enumerate(names)
    ]
    table = pd.concat(parts, ignore_index=True)
    return table if objects is None else table.join(object_scores.image_table(objects))


def _by_series(
    table: pd.DataFrame, names: list[str], volumes: SeriesCounts | None, aggregator: Aggregator
) -> pd.DataFrame:
    """Add the volumes' num_missing, volume_dice, hd95 and surface_dice; missing if a series forms no volume."""
    columns = ["num_missing", "volume_dice", "hd95", "surface_dice"]
    if volumes is None:
        missing = pd.array([pd.NA] * len(table), dtype="Int64")
        return table.assign(num_missing=missing, **dict.fromkeys(columns[1:], np.nan))
    per_image = aggregator._replace(aggregation="image")
    volume_scores = table_by(volumes.counts, names, volumes.rows["series"], scores=VOLUME_SCORES, aggregator=per_image)
    volume_scores = volume_scores.rename(columns={"dice": "volume_dice"}).merge(volumes.rows, on="series")
    volume_scores = volume_scores[["series", "class", *columns]].astype({"num_missing": "Int64"})
    return table.merge(volume_scores, on=["series", "class"], how="left")
