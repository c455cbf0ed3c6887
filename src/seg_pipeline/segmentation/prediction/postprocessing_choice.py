"""Choose the postprocessing: a step is kept for a class only if it improves that class.

Axes: N images, C classes, V candidate values of a setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seg_pipeline.segmentation.manifest.table import class_names, iter_records, read_masks
from seg_pipeline.segmentation.metrics.aggregation import Aggregator, defined_mean, image_values
from seg_pipeline.segmentation.metrics.confidence_intervals import interval
from seg_pipeline.segmentation.objects.gaps import start_probabilities
from seg_pipeline.segmentation.objects.splitting import STEPS, THRESHOLDS, to_levels
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads, num_threads
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, class_part, clean_masks
from seg_pipeline.segmentation.prediction.postprocessing_candidates import (
    AREAS,
    CONFIDENCES,
    SEEDS,
    PackedLevels,
    argmax_levels,
    count_class_splits,
    count_levels,
    count_objects,
    counts_if_cleared,
    to_counts,
)
from seg_pipeline.segmentation.prediction.predict_images import plain_masks
from seg_pipeline.segmentation.prediction.uncertainty import SCORES, calibrated
from seg_pipeline.segmentation.prediction.uncertainty_choice import choose_flag, temperatures
from seg_pipeline.segmentation.prediction.validation_gain import Validation, resampling_units
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.settings.review import ReviewSettings
from seg_pipeline.segmentation.settings.training import PredictSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

MIN_GAIN = 0.002
"""Smallest gain in Dice that justifies a step, even if a smaller gain is certain."""

RULE = (
    f"A step is kept for a class if it raises the class's Dice on the validation images by at least {MIN_GAIN} and "
    "the confidence interval of the gain, estimated by resampling, lies above 0."
)

OBJECT_RULE = (
    "The steps of objects are judged in the same way, by the mean F1 of the objects over IoU .5 to .95 in "
    "place of the Dice, and their interval may begin at 0."
)
MIDDLE_OF_TIES = ("thresholds", "min_peak", "object_seeds", "object_confidence")
"""Of adjacent equally good values of these settings the middle one is the safest; of areas, the smallest."""


@dataclass(frozen=True)
class Choices:
    """What to choose on validation images."""

    steps: bool = True
    """Choose thresholds and later steps; False: masks are only thresholded, as in training's validation."""
    calibrate: bool = True
    """Fit temperatures that calibrate the probabilities."""
    review: ReviewSettings = field(default_factory=ReviewSettings)
    """Which images the flag "look at this" should catch."""


ALL_CHOICES = Choices()


def choose_postprocessing(
    train_val_images: pd.DataFrame,
    checkpoint: dict,
    *,
    device: torch.device,
    batch_size: int,
    prediction: PredictSettings,
    aggregator: Aggregator,
    confidence: float,
    choices: Choices = ALL_CHOICES,
    workers: int | None = None,
) -> tuple[dict, pd.DataFrame]:
    """Choose the settings that raise the Dice on validation images by more than chance.

    Each image is predicted once, and some of them once more beforehand to fit temperatures. The steps are tried in the
    order of the fields of ``Postprocessing``, each on top of the steps kept so far.

    Args:
        train_val_images: manifest without the test split.
        prediction: prediction options, such as test-time augmentation.
        aggregator: how Dice is aggregated and resampled.
        confidence: confidence level of the interval, which must lie above 0.
        choices: what to choose.
        workers: see ``predict_masks``.

    Returns:
        settings (``Postprocessing.to_dict``), classes, gains (one dict per step and class), rule, chosen_on,
        resampled, num_images, review (``choose_flag``); and a table with dice, precision and recall, one row per class
        and threshold (empty for multiclass).
    """
    validation = Validation(train_val_images, checkpoint, device, batch_size, prediction, workers)
    config = validation.config
    plain = replace(plain_masks(config), temperatures=temperatures(validation) if choices.calibrate else None)
    predictions = _predict_validation(validation, plain)
    resampled, groups = resampling_units(predictions.rows)
    choice = _Choice(config.classes, plain, groups, aggregator, confidence)
    counts = predictions.by_threshold[:, predictions.thresholds.index((plain.thresholds or (0.0,))[0])]
    if choices.steps:
        _choose_thresholds(choice, predictions)
        counts = _choose_objects(choice, predictions, workers)
        _choose_splits(choice, predictions, workers)
    dice = defined_mean(image_values(to_counts(counts), "dice", empty_policy="skip"))
    flag = choose_flag(predictions.uncertainty, dice, choices.review)
    chosen = {
        "settings": replace(choice.settings, uncertainty=flag["score"], look_above=flag["look_above"]).to_dict(),
        "classes": list(config.classes),
        "gains": choice.gains,
        "rule": f"{RULE} {OBJECT_RULE}" if config.objects else RULE,
        "chosen_on": "folds" if checkpoint["folds"] else "val",
        "resampled": resampled,
        "num_images": len(predictions.rows),
        "review": flag,
    }
    return chosen, _threshold_curve(predictions, config, aggregator, groups)


@dataclass
class _ValidationPredictions:
    """Predictions of the validation images, reduced to what the choice needs."""

    rows: pd.DataFrame
    thresholds: tuple[float, ...]
    by_threshold: np.ndarray
    """Counts (N, T, C, 3)."""
    peaks: np.ndarray
    """Largest probability (N, C)."""
    levels: Sequence[PackedLevels]
    uncertainty: pd.DataFrame
    """One column per candidate of ``uncertainty.SCORES``."""


def _predict_validation(validation: Validation, plain: Postprocessing) -> _ValidationPredictions:
    config = validation.config
    thresholds = tuple(sorted({*THRESHOLDS, config.scores.threshold})) if config.task == "multilabel" else (0.0,)
    names, channels = list(config.classes), len(config.classes) + config.background

    def measure(row: dict, tensor: Tensor) -> tuple[np.ndarray, np.ndarray, PackedLevels, list[float]]:
        probabilities = calibrated(tensor.numpy(), plain.temperatures, config.task)
        if config.task == "multilabel":
            parts = [probabilities[: len(names)], *([start_probabilities(probabilities)] if config.objects else [])]
            levels = to_levels(np.concatenate(parts), thresholds)
        else:
            levels = argmax_levels(probabilities, config.background)
        counts = count_levels(levels[: len(names)], read_masks(row, names), len(thresholds))
        scores = [score(probabilities[:channels], config.task, config.background) for score in SCORES.values()]
        return counts, class_part(probabilities, plain, config.background).max((1, 2)), PackedLevels(levels), scores

    rows, measured = validation.predict(measure)
    counts, peaks, levels, scores = zip(*measured, strict=True)
    uncertainty = pd.DataFrame(scores, columns=list(SCORES))
    return _ValidationPredictions(rows, thresholds, np.stack(counts), np.stack(peaks), levels, uncertainty)


@dataclass
class _Choice:
    """The settings so far, and what each step gained."""

    classes: Sequence[str]
    settings: Postprocessing
    groups: pd.Series
    aggregator: Aggregator
    confidence: float
    gains: list[dict] = field(default_factory=list)

    def step(self, step: str, index: int, values: Sequence[Any], counts: np.ndarray) -> None:
        """Adopt the best value of one class's setting, from counts (N, V, 3), if it gains enough."""
        current = values.index(getattr(self.settings, step)[index])
        dice, resampled = self.aggregator.estimate(to_counts(counts), "dice", self.groups)
        best = current if np.isnan(dice).all() else int(np.nanargmax(dice))
        if step in MIDDLE_OF_TIES:
            best += _num_equal_after(dice[best:]) // 2
        low, high = interval(resampled[:, best] - resampled[:, current], confidence=self.confidence)
        certain = low >= 0 if step.startswith("object_") else low > 0
        keep = bool(dice[best] - dice[current] >= MIN_GAIN and certain)
        self.gains.append(
            {
                "step": step,
                "class": self.classes[index],
                "value": values[best],
                "dice_before": None if np.isnan(dice[current]) else float(dice[current]),
                "dice_after": None if np.isnan(dice[best]) else float(dice[best]),
                "gain_interval": None if np.isnan(low) else [low, high],
                "kept": keep,
            }
        )
        if keep:
            self.settings = self.settings.changed(step, index, values[best])


def _num_equal_after(values: np.ndarray) -> int:
    """How many values follow the first one that equal it."""
    others = np.flatnonzero(values != values[0])
    return int(others[0]) - 1 if others.size else len(values) - 1


def _choose_thresholds(choice: _Choice, predictions: _ValidationPredictions) -> None:
    if choice.settings.thresholds is not None:
        for index in range(len(choice.classes)):
            choice.step("thresholds", index, predictions.thresholds, predictions.by_threshold[:, :, index])


def _choose_objects(choice: _Choice, predictions: _ValidationPredictions, workers: int | None) -> np.ndarray:
    """Choose the steps after the threshold; returns the counts (N, C, 3) of the final masks."""
    grid = _count_objects_per_image(predictions, choice.settings, workers)
    class_indices = range(len(choice.classes))
    for index in class_indices:
        choice.step("fill_holes", index, [False, True], grid[:, index, :, 0, 0])
    filled = [grid[:, index, int(choice.settings.fill_holes[index])] for index in class_indices]
    for index in class_indices:
        choice.step("min_area", index, AREAS, filled[index][:, :, 0])
    by_area = [filled[index][:, AREAS.index(choice.settings.min_area[index])] for index in class_indices]
    for index in class_indices:
        choice.step("largest_only", index, [False, True], by_area[index])
    final = []
    for index in class_indices:
        counts = by_area[index][:, int(choice.settings.largest_only[index])]
        threshold = choice.settings.thresholds[index] if choice.settings.thresholds else 0.0
        min_peaks = (0.0, *(probability for probability in THRESHOLDS if probability > threshold))
        cleared = counts_if_cleared(counts, predictions.peaks[:, index], min_peaks)
        choice.step("min_peak", index, min_peaks, cleared)
        final.append(cleared[:, min_peaks.index(choice.settings.min_peak[index])])
    return np.stack(final, axis=1)


def _count_objects_per_image(
    predictions: _ValidationPredictions, settings: Postprocessing, workers: int | None
) -> np.ndarray:
    """``count_objects`` of each image at the chosen thresholds: (N, C, 2, A, 2, 3)."""
    if settings.thresholds is None:
        limits = np.zeros(predictions.peaks.shape[1], dtype=int)
    else:
        limits = np.array([predictions.thresholds.index(threshold) for threshold in settings.thresholds])
    exclusive, names = settings.thresholds is None, class_names(predictions.rows)

    def count(item: tuple[dict, PackedLevels]) -> np.ndarray:
        row, levels = item
        masks = levels.unpack()[: len(names)] > limits[:, None, None]
        return count_objects(masks, read_masks(row, names), exclusive=exclusive)

    items = zip(iter_records(predictions.rows), predictions.levels, strict=True)
    counts = map_in_threads(count, items, workers=num_threads(workers))
    return np.stack(
        list(progress_bar(counts, total=len(predictions.rows), title="trying postprocessing", unit="images"))
    )


def _choose_splits(choice: _Choice, predictions: _ValidationPredictions, workers: int | None) -> None:
    """Choose where objects start, their minimum confidence and their minimum area, after the masks' settings."""
    if choice.settings.object_seeds is None:
        return
    settings, names = choice.settings, class_names(predictions.rows)
    assert settings.thresholds is not None, "only a multilabel task has objects"
    limits = np.array([predictions.thresholds.index(threshold) for threshold in settings.thresholds])
    starts = np.searchsorted(predictions.thresholds, SEEDS).tolist()
    values = STEPS[[0, *np.searchsorted(THRESHOLDS, predictions.thresholds, side="right")]]  # of each level

    def count(item: tuple[dict, PackedLevels, np.ndarray]) -> np.ndarray:
        row, packed, peaks = item
        levels, truth = packed.unpack(), read_masks(row, names)
        cleaned = clean_masks(levels[: len(names)] > limits[:, None, None], peaks, settings, task="multilabel")
        probabilities, start_levels = values[levels[: len(names)]], levels[len(names) :]
        candidates: dict[str, Any] = {"seeds": starts, "means": CONFIDENCES, "areas": AREAS}
        return count_class_splits(row, names, cleaned, start_levels, probabilities, truth, **candidates)

    items = zip(iter_records(predictions.rows), predictions.levels, predictions.peaks, strict=True)
    counts = map_in_threads(count, items, workers=num_threads(workers))
    grid = np.stack(list(progress_bar(counts, total=len(predictions.rows), title="splitting objects", unit="images")))
    for index in range(len(names)):
        choice.step("object_seeds", index, SEEDS, grid[:, index, :, 0, 0])
        by_seed = grid[:, index, SEEDS.index(_value(choice.settings.object_seeds, index))]
        choice.step("object_confidence", index, CONFIDENCES, by_seed[:, :, 0])
        by_confidence = by_seed[:, CONFIDENCES.index(_value(choice.settings.object_confidence, index))]
        choice.step("object_area", index, AREAS, by_confidence)


def _value(values: tuple[float, ...] | None, index: int) -> float:
    assert values is not None, "a step changes a value, and removes none"
    return values[index]


def _threshold_curve(
    predictions: _ValidationPredictions, config: TrainingConfig, aggregator: Aggregator, groups: pd.Series
) -> pd.DataFrame:
    columns = ["class", "threshold", "dice", "precision", "recall"]
    if config.task != "multilabel":
        return pd.DataFrame(columns=columns).astype({"class": str} | dict.fromkeys(columns[1:], float))
    parts = []
    for index, name in enumerate(config.classes):
        counts = to_counts(predictions.by_threshold[:, :, index])
        scores = {score: aggregator._replace(repeats=0).estimate(counts, score, groups)[0] for score in columns[2:]}
        parts.append(pd.DataFrame({"class": name, "threshold": predictions.thresholds, **scores}))
    return pd.concat(parts, ignore_index=True)
