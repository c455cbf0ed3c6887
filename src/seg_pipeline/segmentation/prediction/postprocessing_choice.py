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
from seg_pipeline.segmentation.objects.gaps import starts_of
from seg_pipeline.segmentation.objects.splitting import STEPS, THRESHOLDS, levels_of
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads, num_threads
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, class_part, clean_masks
from seg_pipeline.segmentation.prediction.postprocessing_candidates import (
    AREAS,
    CONFIDENCES,
    SEEDS,
    Packed,
    count_levels,
    count_objects,
    count_ways,
    counts_if_cleared,
    counts_of,
    winners_of,
)
from seg_pipeline.segmentation.prediction.predict_images import plain_masks
from seg_pipeline.segmentation.prediction.uncertainty import SCORES, calibrated
from seg_pipeline.segmentation.prediction.uncertainty_choice import choose_flag, temperatures
from seg_pipeline.segmentation.prediction.validation_gain import Validation, resampled_by
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.settings.review import ReviewSettings
from seg_pipeline.segmentation.settings.training import PredictSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

LEAST_GAIN = 0.002
"""Smallest gain in Dice that justifies a step, even if a smaller gain is certain."""

RULE = (
    f"A step is kept for a class if it raises the class's Dice on the validation images by at least {LEAST_GAIN} and "
    "the confidence interval of the gain, estimated by resampling, lies above 0."
)

OF_OBJECTS = (
    "The steps of objects are judged in the same way, by the mean F1 of the objects over IoU .5 to .95 in "
    "place of the Dice, and their interval may begin at 0."
)
PROBABILITIES = ("thresholds", "min_peak", "object_seeds", "object_confidence")
"""Of equally good values next to each other the middle one is the safest; of areas, the smallest."""


@dataclass(frozen=True)
class Choices:
    """What is chosen on validation images."""

    steps: bool = True
    """Thresholds and the steps after them; False: masks are only thresholded, as in training's validation."""
    calibrate: bool = True
    """Temperatures, so that probabilities are calibrated."""
    review: ReviewSettings = field(default_factory=ReviewSettings)
    """Which images the flag "look at this" should catch."""


EVERY_CHOICE = Choices()


def choose_postprocessing(
    train_val_images: pd.DataFrame,
    checkpoint: dict,
    *,
    device: torch.device,
    batch_size: int,
    prediction: PredictSettings,
    aggregator: Aggregator,
    confidence: float,
    choices: Choices = EVERY_CHOICE,
    workers: int | None = None,
) -> tuple[dict, pd.DataFrame]:
    """Choose the settings that raise the Dice on validation images by more than chance.

    Each image is predicted once, and some of them once more before that where temperatures must be fitted. The steps
    are tried in the order of the fields of ``Postprocessing``, each on top of the steps kept so far.

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
    seen = _look(validation, plain)
    resampled, groups = resampled_by(seen.rows)
    choice = _Choice(config.classes, plain, groups, aggregator, confidence)
    counts = seen.by_threshold[:, seen.thresholds.index((plain.thresholds or (0.0,))[0])]
    if choices.steps:
        _choose_thresholds(choice, seen)
        counts = _choose_objects(choice, seen, workers)
        _choose_splits(choice, seen, workers)
    dice = defined_mean(image_values(counts_of(counts), "dice", empty_policy="skip"))
    flag = choose_flag(seen.uncertainty, dice, choices.review)
    described = {
        "settings": replace(choice.settings, uncertainty=flag["score"], look_above=flag["look_above"]).to_dict(),
        "classes": list(config.classes),
        "gains": choice.gains,
        "rule": f"{RULE} {OF_OBJECTS}" if config.objects else RULE,
        "chosen_on": "folds" if checkpoint["folds"] else "val",
        "resampled": resampled,
        "num_images": len(seen.rows),
        "review": flag,
    }
    return described, _threshold_curve(seen, config, aggregator, groups)


@dataclass
class _Seen:
    """Predictions of the validation images, reduced to what the choice needs."""

    rows: pd.DataFrame
    thresholds: tuple[float, ...]
    by_threshold: np.ndarray
    """Counts (N, T, C, 3)."""
    peaks: np.ndarray
    """Largest probability (N, C)."""
    levels: Sequence[Packed]
    uncertainty: pd.DataFrame
    """One column per candidate of ``uncertainty.SCORES``."""


def _look(validation: Validation, plain: Postprocessing) -> _Seen:
    config = validation.config
    thresholds = tuple(sorted({*THRESHOLDS, config.scores.threshold})) if config.task == "multilabel" else (0.0,)
    names, channels = list(config.classes), len(config.classes) + config.background

    def look(row: dict, tensor: Tensor) -> tuple[np.ndarray, np.ndarray, Packed, list[float]]:
        probabilities = calibrated(tensor.numpy(), plain.temperatures, config.task)
        if config.task == "multilabel":
            parts = [probabilities[: len(names)], *([starts_of(probabilities)] if config.objects else [])]
            levels = levels_of(np.concatenate(parts), thresholds)
        else:
            levels = winners_of(probabilities, config.background)
        counts = count_levels(levels[: len(names)], read_masks(row, names), len(thresholds))
        scores = [score(probabilities[:channels], config.task, config.background) for score in SCORES.values()]
        return counts, class_part(probabilities, plain, config.background).max((1, 2)), Packed(levels), scores

    rows, found = validation.each(look)
    counts, peaks, levels, scores = zip(*found, strict=True)
    uncertainty = pd.DataFrame(scores, columns=list(SCORES))
    return _Seen(rows, thresholds, np.stack(counts), np.stack(peaks), levels, uncertainty)


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
        now = values.index(getattr(self.settings, step)[index])
        dice, resampled = self.aggregator.estimate(counts_of(counts), "dice", self.groups)
        best = now if np.isnan(dice).all() else int(np.nanargmax(dice))
        if step in PROBABILITIES:
            best += _equal_ones(dice[best:]) // 2
        low, high = interval(resampled[:, best] - resampled[:, now], confidence=self.confidence)
        certain = low >= 0 if step.startswith("object_") else low > 0
        keep = bool(dice[best] - dice[now] >= LEAST_GAIN and certain)
        self.gains.append(
            {
                "step": step,
                "class": self.classes[index],
                "value": values[best],
                "dice_before": None if np.isnan(dice[now]) else float(dice[now]),
                "dice_after": None if np.isnan(dice[best]) else float(dice[best]),
                "gain_interval": None if np.isnan(low) else [low, high],
                "kept": keep,
            }
        )
        if keep:
            self.settings = self.settings.changed(step, index, values[best])


def _equal_ones(values: np.ndarray) -> int:
    """How many values follow the first one that equal it."""
    others = np.flatnonzero(values != values[0])
    return int(others[0]) - 1 if others.size else len(values) - 1


def _choose_thresholds(choice: _Choice, seen: _Seen) -> None:
    if choice.settings.thresholds is not None:
        for index in range(len(choice.classes)):
            choice.step("thresholds", index, seen.thresholds, seen.by_threshold[:, :, index])


def _choose_objects(choice: _Choice, seen: _Seen, workers: int | None) -> np.ndarray:
    """Choose the steps after the threshold; returns the counts (N, C, 3) of the final masks."""
    grid = _objects(seen, choice.settings, workers)
    every = range(len(choice.classes))
    for index in every:
        choice.step("fill_holes", index, [False, True], grid[:, index, :, 0, 0])
    filled = [grid[:, index, int(choice.settings.fill_holes[index])] for index in every]
    for index in every:
        choice.step("min_area", index, AREAS, filled[index][:, :, 0])
    large = [filled[index][:, AREAS.index(choice.settings.min_area[index])] for index in every]
    for index in every:
        choice.step("largest_only", index, [False, True], large[index])
    final = []
    for index in every:
        counts = large[index][:, int(choice.settings.largest_only[index])]
        bare = choice.settings.thresholds[index] if choice.settings.thresholds else 0.0
        least = (0.0, *(one for one in THRESHOLDS if one > bare))
        cleared = counts_if_cleared(counts, seen.peaks[:, index], least)
        choice.step("min_peak", index, least, cleared)
        final.append(cleared[:, least.index(choice.settings.min_peak[index])])
    return np.stack(final, axis=1)


def _objects(seen: _Seen, settings: Postprocessing, workers: int | None) -> np.ndarray:
    """``count_objects`` of each image at the chosen thresholds: (N, C, 2, A, 2, 3)."""
    if settings.thresholds is None:
        limits = np.zeros(seen.peaks.shape[1], dtype=int)
    else:
        limits = np.array([seen.thresholds.index(one) for one in settings.thresholds])
    exclusive, names = settings.thresholds is None, class_names(seen.rows)

    def count(item: tuple[dict, Packed]) -> np.ndarray:
        row, levels = item
        masks = levels.unpacked()[: len(names)] > limits[:, None, None]
        return count_objects(masks, read_masks(row, names), exclusive=exclusive)

    items = zip(iter_records(seen.rows), seen.levels, strict=True)
    counts = map_in_threads(count, items, workers=num_threads(workers))
    return np.stack(list(progress_bar(counts, total=len(seen.rows), title="trying postprocessing", unit="images")))


def _choose_splits(choice: _Choice, seen: _Seen, workers: int | None) -> None:
    """Choose where objects start, how sure they must be and how small they may be, once their masks are chosen."""
    if choice.settings.object_seeds is None:
        return
    settings, names = choice.settings, class_names(seen.rows)
    assert settings.thresholds is not None, "only a multilabel task has objects"
    limits = np.array([seen.thresholds.index(one) for one in settings.thresholds])
    starts = np.searchsorted(seen.thresholds, SEEDS).tolist()
    values = STEPS[[0, *np.searchsorted(THRESHOLDS, seen.thresholds, side="right")]]  # of each level

    def count(item: tuple[dict, Packed, np.ndarray]) -> np.ndarray:
        row, packed, peaks = item
        levels, masks = packed.unpacked(), read_masks(row, names)
        found = clean_masks(levels[: len(names)] > limits[:, None, None], peaks, settings, task="multilabel")
        probable, starting = values[levels[: len(names)]], levels[len(names) :]
        ways: dict[str, Any] = {"seeds": starts, "means": CONFIDENCES, "areas": AREAS}
        return count_ways(row, names, found, starting, probable, masks, **ways)

    items = zip(iter_records(seen.rows), seen.levels, seen.peaks, strict=True)
    counts = map_in_threads(count, items, workers=num_threads(workers))
    grid = np.stack(list(progress_bar(counts, total=len(seen.rows), title="splitting objects", unit="images")))
    for index in range(len(names)):
        choice.step("object_seeds", index, SEEDS, grid[:, index, :, 0, 0])
        started = grid[:, index, SEEDS.index(_value(choice.settings.object_seeds, index))]
        choice.step("object_confidence", index, CONFIDENCES, started[:, :, 0])
        sure = started[:, CONFIDENCES.index(_value(choice.settings.object_confidence, index))]
        choice.step("object_area", index, AREAS, sure)


def _value(values: tuple[float, ...] | None, index: int) -> float:
    assert values is not None, "a step changes a value, and removes none"
    return values[index]


def _threshold_curve(seen: _Seen, config: TrainingConfig, aggregator: Aggregator, groups: pd.Series) -> pd.DataFrame:
    columns = ["class", "threshold", "dice", "precision", "recall"]
    if config.task != "multilabel":
        return pd.DataFrame(columns=columns).astype({"class": str} | dict.fromkeys(columns[1:], float))
    parts = []
    for index, name in enumerate(config.classes):
        counts = counts_of(seen.by_threshold[:, :, index])
        scores = {score: aggregator._replace(repeats=0).estimate(counts, score, groups)[0] for score in columns[2:]}
        parts.append(pd.DataFrame({"class": name, "threshold": seen.thresholds, **scores}))
    return pd.concat(parts, ignore_index=True)
