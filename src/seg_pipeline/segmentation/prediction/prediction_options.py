"""Measure each prediction option on validation images: its gain in Dice or F1 of objects, and its cost in time."""

import math
import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seg_pipeline.segmentation.manifest.table import read_masks
from seg_pipeline.segmentation.metrics.aggregation import Aggregator, defined_mean
from seg_pipeline.segmentation.metrics.confidence_intervals import interval
from seg_pipeline.segmentation.metrics.counting import count_pixels
from seg_pipeline.segmentation.metrics.overlap import Collected, Counts
from seg_pipeline.segmentation.objects.gaps import start_probabilities
from seg_pipeline.segmentation.objects.splitting import THRESHOLDS, to_levels
from seg_pipeline.segmentation.prediction.postprocessing import make_masks
from seg_pipeline.segmentation.prediction.postprocessing_candidates import SEEDS, count_class_splits, to_counts
from seg_pipeline.segmentation.prediction.predict_images import config_of, load_models, plain_masks, predict_each
from seg_pipeline.segmentation.prediction.validation_gain import resampling_units, validation_runs
from seg_pipeline.segmentation.settings.training import InputSettings, PredictSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

OVERLAP = 0.5
"""Overlap of the windows if the settings do not name one."""

MIN_GAIN = 0.002
"""Smallest gain for which `tta: auto` mirrors images, even if a smaller gain is certain."""

COLUMNS = ["option", "measure", "score", "gain", "gain_low", "gain_high", "seconds_per_image", "cost", "used"]

Runs = list[tuple[pd.DataFrame, dict]]


def measure_options(
    train_val_images: pd.DataFrame,
    checkpoint: dict,
    *,
    device: torch.device,
    batch_size: int,
    prediction: PredictSettings,
    aggregator: Aggregator,
    confidence: float,
    max_images: int,
    workers: int | None = None,
) -> pd.DataFrame:
    """Measure each prediction option; one row per option, with the columns ``COLUMNS``.

    ``score`` is the mean over classes of the Dice of thresholded masks without postprocessing; for a model of objects,
    of their mean F1 over IoU .5 to .95, each option with the ``object_seeds`` that suit it best. ``gain`` is the
    difference to "plain", with its interval; ``cost`` is the time relative to "plain". The ensemble over folds has no
    score, because all but one of its models were trained on each validation image.

    Args:
        train_val_images: manifest without the test split.
        prediction: the settings in use; with `tta: auto` the option that ``choose_tta`` chooses.
        max_images: number of images to measure on, in whole series drawn evenly; 0: measure nothing and return an
            empty table.
        workers: see ``predict_masks``.
    """
    if not max_images:
        return pd.DataFrame(columns=COLUMNS)
    auto, prediction = prediction.tta == "auto", prediction.resolved(None)
    runs = validation_runs(train_val_images, checkpoint, "measure the options of prediction")
    sample = [(whole_series(rows, max_images // len(checkpoint["models"])), models) for rows, models in runs]
    config, rows = config_of(checkpoint), pd.concat([part for part, _ in sample], ignore_index=True)
    _, groups = resampling_units(rows)
    options = options_of(prediction, config.input, rows)
    measured = {name: _measure(sample, config, option, device, batch_size, workers) for name, option in options.items()}
    if config.objects:
        measured = {
            name: (_best_seed_counts(counts, aggregator, groups), seconds)
            for name, (counts, seconds) in measured.items()
        }
    estimates = {name: aggregator.estimate(counts, "dice", groups) for name, (counts, _) in measured.items()}
    table = pd.DataFrame([_row(name, estimates, measured[name][1], confidence) for name in options])
    table.insert(1, "measure", "F1 of objects" if config.objects else "Dice")
    table["cost"] = table["seconds_per_image"] / table["seconds_per_image"].iloc[0]
    if auto:
        prediction = replace(prediction, tta=choose_tta(table)["option"])
    table["used"] = [option == replace(prediction, ensemble="all") for option in options.values()]
    return pd.concat([table, _ensemble(checkpoint, prediction, table)], ignore_index=True)


def choose_tta(options: pd.DataFrame) -> dict[str, Any]:
    """Choose the option for `tta: auto`: the mirroring with the largest gain, if that is at least ``MIN_GAIN`` and its
    interval lies above 0, else none.

    Args:
        options: result of ``measure_options``.

    Returns:
        option (a value of `prediction.tta`), gain, gain_interval and cost as plain values; only option if it is none.

    Raises:
        ValueError: nothing was measured.
    """
    if options.empty:
        raise ValueError("`prediction.tta: auto` needs `evaluation.option_images` above 0 to measure the gain")
    helpful = (
        options["option"].isin(["horizontal", "flips"]) & (options["gain"] >= MIN_GAIN) & (options["gain_low"] > 0)
    )
    if not helpful.any():
        return {"option": "none"}
    best = options[helpful].sort_values(["gain", "cost"], ascending=[True, False]).iloc[-1]
    interval = [float(best["gain_low"]), float(best["gain_high"])]
    return {"option": str(best["option"]), "gain": float(best["gain"]), "gain_interval": interval,
            "cost": float(best["cost"])}  # fmt: skip


def options_of(prediction: PredictSettings, settings: InputSettings, rows: pd.DataFrame) -> dict[str, PredictSettings]:
    """List the options to measure: "plain" first, "windows" if images are larger than a window, and last "as set" if
    the settings in use combine several options."""
    plain = PredictSettings()
    overlap = OVERLAP if prediction.overlap is None else prediction.overlap
    options = {"plain": plain, "horizontal": replace(plain, tta="horizontal"), "flips": replace(plain, tta="flips")}
    largest = rows[["height", "width"]].max().to_numpy() * settings.scale
    if settings.resize_mode == "crop" and (largest > np.array(settings.size)).any():
        options["windows"] = replace(plain, overlap=overlap)
    used = replace(prediction, ensemble="all")
    return options if used in options.values() else {**options, "as set": used}


def whole_series(rows: pd.DataFrame, max_images: int) -> pd.DataFrame:
    """Draw whole series evenly, with at most ``most`` images in total, but at least one series."""
    sizes = rows.groupby("series", sort=False).size()
    step = max(1, math.ceil(len(rows) / max(max_images, 1)))
    return rows[rows["series"].isin(sizes.index[::step])].reset_index(drop=True)


def _measure(
    sample: Runs,
    config: TrainingConfig,
    settings: PredictSettings,
    device: torch.device,
    batch_size: int,
    workers: int | None,
) -> tuple[Counts, float]:
    """Count the pixels of all images, or their objects by ``SEEDS``, and measure the seconds per image."""
    overlap, seconds, thresholded = Collected[Counts](), 0.0, plain_masks(config)
    names = list(config.classes)

    def count(row: dict, tensor: Tensor) -> Counts:
        probabilities, truth = tensor.numpy(), read_masks(row, names)
        masks = make_masks(probabilities, thresholded, task=config.task, background=config.background)
        if not config.objects:
            return count_pixels(masks, truth)[0]
        levels = to_levels(start_probabilities(probabilities), THRESHOLDS)
        starts = np.searchsorted(THRESHOLDS, SEEDS).tolist()
        by_seed = count_class_splits(row, names, masks, levels, masks, truth, seeds=starts, means=[0], areas=[0])
        return to_counts(by_seed.reshape(1, -1, 3))

    for rows, checkpoint in sample:
        models = load_models(checkpoint, device)
        predict = partial(predict_each, models, finish=count, device=device, settings=settings, workers=workers)
        list(predict(rows=rows[:1], batch_size=1))  # warms up
        started = time.perf_counter()
        for counts_of_image in predict(rows=rows, batch_size=batch_size):
            overlap.add(counts_of_image)
        seconds += time.perf_counter() - started
    counts = overlap.all()
    return counts, seconds / len(counts.known)


def _best_seed_counts(counts: Counts, aggregator: Aggregator, groups: pd.Series) -> Counts:
    """Select each class's counts at its best seed, from the counts of all classes and ``SEEDS``."""
    f1, _ = aggregator._replace(repeats=0).estimate(counts, "dice", groups)
    best = np.nan_to_num(f1).reshape(-1, len(SEEDS)).argmax(1)
    columns = best + np.arange(len(best)) * len(SEEDS)
    true_pos, false_pos, false_neg = (pixels[:, columns] for pixels in counts[:3])
    return counts._replace(true_pos=true_pos, false_pos=false_pos, false_neg=false_neg)


def _row(name: str, estimates: dict[str, tuple[np.ndarray, np.ndarray]], seconds: float, confidence: float) -> dict:
    (dice, resampled), (plain, plain_resampled) = estimates[name], estimates["plain"]
    low, high = interval(defined_mean(resampled) - defined_mean(plain_resampled), confidence=confidence)
    gain = float(defined_mean(dice) - defined_mean(plain))
    return {
        "option": name,
        "score": float(defined_mean(dice)),
        "gain": gain,
        "gain_low": low,
        "gain_high": high,
        "seconds_per_image": seconds,
    }


def _ensemble(checkpoint: dict, prediction: PredictSettings, table: pd.DataFrame) -> pd.DataFrame:
    """The row for the ensemble over folds; no row if there is only one model."""
    number = len(checkpoint["models"])
    if number == 1:
        return table[:0]
    nothing = dict.fromkeys(("score", "gain", "gain_low", "gain_high"), math.nan)
    seconds = table["seconds_per_image"].iloc[0] * number
    used = prediction.ensemble == "all"
    about = {"option": f"mean of {number} folds", "measure": table["measure"].iloc[0], "seconds_per_image": seconds}
    return pd.DataFrame([{**about, "cost": float(number), "used": used, **nothing}])
