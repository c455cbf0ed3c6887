"""Fit the temperatures and choose the flag "look at this", on validation images."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.manifest.table import read_masks
from seg_pipeline.segmentation.prediction.predict_images import NO_OPTIONS
from seg_pipeline.segmentation.prediction.validation_gain import Validation
from seg_pipeline.segmentation.settings.review import ReviewSettings
from seg_pipeline.segmentation.settings.training import Task

LEAST_PIXELS = 1000
"""Sampled pixels of a class from which it has a temperature of its own."""
MOST_IMAGES = 256
"""Validation images that temperatures are fitted on."""
MOST_VALUES = 2**21
"""Sampled probabilities over all images and channels."""
RANGE = 0.5, 10.0
"""Of a temperature. A few validation images that are predicted perfectly would ask for one near 0."""


def with_temperatures(checkpoint: dict, train_val_images: pd.DataFrame, *, device: torch.device) -> dict:
    """The checkpoint with ``temperatures``: those of ``fit_temperatures`` on the validation images, plainly predicted.

    ``train_val_images`` is the manifest without the test split.
    """
    return {**checkpoint, "temperatures": _fit_on(Validation(train_val_images, checkpoint, device))}


def temperatures(validation: Validation) -> tuple[float, ...] | None:
    """Those in the checkpoint, if it has some for this way to predict; else those fitted on the validation images."""
    if validation.prediction == NO_OPTIONS and "temperatures" in validation.checkpoint:
        return validation.checkpoint["temperatures"]
    return _fit_on(validation)


def _fit_on(validation: Validation) -> tuple[float, ...] | None:
    config, models = validation.config, len(validation.checkpoint["models"])
    channels = len(config.classes) + config.background
    number = MOST_VALUES // (min(max(len(validation), 1), MOST_IMAGES) * channels)

    def look(row: dict, tensor: Tensor) -> Pixels:
        truth = read_masks(row, list(config.classes))
        seed = zlib.crc32(row["image_id"].encode())
        return sample_pixels(tensor.numpy()[:channels], truth, number, seed=seed)

    _, samples = validation.each(look, most=max(1, MOST_IMAGES // models))
    return fit_temperatures(samples, config.task, background=config.background) if samples else None


class Pixels(NamedTuple):
    """Sampled pixels of an image."""

    probabilities: np.ndarray
    """float32 (K, N)."""
    truth: np.ndarray
    """uint8 (C, N) of 0, 1 and ``IGNORE``."""


def sample_pixels(probabilities: np.ndarray, truth: np.ndarray, number: int, seed: int) -> Pixels:
    """Draw pixels of an image, or take all if it has no more: probabilities (K, H, W), masks uint8 (C, H, W)."""
    size = truth[0].size
    places = np.arange(size) if number >= size else np.random.default_rng(seed).integers(size, size=number)
    return Pixels(probabilities.reshape(len(probabilities), -1)[:, places], truth.reshape(len(truth), -1)[:, places])


def fit_temperatures(samples: Sequence[Pixels], task: Task, *, background: bool) -> tuple[float, ...] | None:
    """One temperature per class: those that minimise the negative log likelihood (Guo et al. 2017), which is convex.

    A class with fewer than ``LEAST_PIXELS`` has that of all classes together. In a multiclass task all classes have
    one. None if there are too few pixels of all classes together.
    """
    probabilities, truth = (np.concatenate(parts, axis=1) for parts in zip(*samples, strict=True))
    if np.count_nonzero(truth == 1) < LEAST_PIXELS:
        return None
    if task == "multiclass":
        return (_fitted(*_multiclass(probabilities, truth, background)),) * len(truth)
    signed = [_signed(*one) for one in zip(probabilities, truth, strict=True)]
    shared = _fitted(_binary_loss, np.concatenate(signed))
    enough = [np.count_nonzero(one == 1) >= LEAST_PIXELS for one in truth]
    return tuple(_fitted(_binary_loss, one) if own else shared for one, own in zip(signed, enough, strict=True))


def _fitted(loss: Callable[[Any, float], float], data: Any) -> float:
    low, high = map(math.log, RANGE)
    found = minimize_scalar(lambda log: loss(data, math.exp(log)), bounds=(low, high), method="bounded")
    return float(f"{math.exp(found.x):.4g}")


def _signed(probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Logits (N,) of the known pixels, positive where the pixel is on its true side."""
    known = mask != IGNORE
    share = probability[known].astype(np.float64).clip(1e-30, 1 - 1e-7)
    return np.log(share / (1 - share)) * np.where(mask[known] == 1, 1, -1)


def _binary_loss(signed: np.ndarray, temperature: float) -> float:
    return float(np.logaddexp(0, -signed / temperature).mean())


def _multiclass(
    probabilities: np.ndarray, truth: np.ndarray, background: bool
) -> tuple[Callable[[tuple[np.ndarray, np.ndarray], float], float], tuple[np.ndarray, np.ndarray]]:
    """The loss and its data: log probabilities (K, N), and the true channel (N,)."""
    known = (truth != IGNORE).all(0) & (background | (truth == 1).any(0))
    channel = np.where((truth == 1).any(0), (truth == 1).argmax(0) + background, 0)[known]
    logs = np.log(probabilities[:, known].astype(np.float64).clip(1e-30))

    def loss(data: tuple[np.ndarray, np.ndarray], temperature: float) -> float:
        scaled = data[0] / temperature
        return float((np.logaddexp.reduce(scaled, axis=0) - scaled[data[1], np.arange(len(data[1]))]).mean())

    return loss, (logs, channel)


def choose_flag(candidates: pd.DataFrame, dice: np.ndarray, settings: ReviewSettings) -> dict[str, Any]:
    """Choose the score that ranks the images best, and the limit from which an image is flagged.

    Args:
        candidates: one column per score, one row per image.
        dice: (N,) of each image, NaN if undefined.

    Returns:
        score, look_above, rank_correlation (Spearman's, per candidate; None if undefined), num_images (with a
        Dice), num_low (below ``settings.dice_below``), flagged (share of all images), dice_below and catch.
    """
    known, low = ~np.isnan(dice), np.nan_to_num(dice, nan=math.inf) < settings.dice_below
    ranks = candidates[known].rank()
    certain = -ranks.corrwith(pd.Series(dice[known], index=ranks.index).rank()) if ranks.nunique().max() > 1 else None
    found = {name: float("nan") if certain is None else float(certain[name]) for name in candidates}
    score = max(found, key=lambda name: -math.inf if math.isnan(found[name]) else found[name])
    values = candidates[score].to_numpy()
    limit = flag_limit(values, low, settings.catch)
    return {
        "score": score,
        "look_above": limit,
        "rank_correlation": {name: None if math.isnan(value) else value for name, value in found.items()},
        "num_images": int(known.sum()),
        "num_low": int(low.sum()),
        "flagged": None if limit is None else float((values >= limit).mean()),
        "dice_below": settings.dice_below,
        "catch": settings.catch,
    }


def flag_limit(values: np.ndarray, low: np.ndarray, catch: float) -> float | None:
    """The highest limit that at least the share ``catch`` of the images of low Dice reach; None if there are none."""
    if not low.any():
        return None
    ranked = np.sort(values[low])[::-1]
    return float(ranked[math.ceil(round(catch * len(ranked), 9)) - 1])
