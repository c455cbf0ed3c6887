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

MIN_PIXELS = 1000
"""Fewest sampled pixels for which a class gets its own temperature."""
MAX_IMAGES = 256
"""Most validation images to fit temperatures on."""
MAX_VALUES = 2**21
"""Most sampled probabilities, over all images and channels."""
TEMPERATURE_RANGE = 0.5, 10.0
"""Bounds of a temperature. On a few perfectly predicted images the fit would approach 0."""


def with_temperatures(checkpoint: dict, train_val_images: pd.DataFrame, *, device: torch.device) -> dict:
    """Add ``temperatures`` to a checkpoint, fitted on validation images that are predicted without options.

    ``train_val_images`` is the manifest without the test split.
    """
    return {**checkpoint, "temperatures": _fit_on(Validation(train_val_images, checkpoint, device))}


def temperatures(validation: Validation) -> tuple[float, ...] | None:
    """Temperatures of the checkpoint if they apply to these prediction options, else fitted on validation images."""
    if validation.prediction == NO_OPTIONS and "temperatures" in validation.checkpoint:
        return validation.checkpoint["temperatures"]
    return _fit_on(validation)


def _fit_on(validation: Validation) -> tuple[float, ...] | None:
    config, num_models = validation.config, len(validation.checkpoint["models"])
    channels = len(config.classes) + config.background
    pixels_per_image = MAX_VALUES // (min(max(len(validation), 1), MAX_IMAGES) * channels)

    def sample(row: dict, tensor: Tensor) -> Pixels:
        truth = read_masks(row, list(config.classes))
        seed = zlib.crc32(row["image_id"].encode())
        return sample_pixels(tensor.numpy()[:channels], truth, pixels_per_image, seed=seed)

    _, samples = validation.predict(sample, max_images=max(1, MAX_IMAGES // num_models))
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
    indices = np.arange(size) if number >= size else np.random.default_rng(seed).integers(size, size=number)
    return Pixels(probabilities.reshape(len(probabilities), -1)[:, indices], truth.reshape(len(truth), -1)[:, indices])


def fit_temperatures(samples: Sequence[Pixels], task: Task, *, background: bool) -> tuple[float, ...] | None:
    """Fit one temperature per class, which minimises the (convex) negative log likelihood (Guo et al. 2017).

    A class with fewer than ``MIN_PIXELS`` gets the temperature fitted on all classes, and so does every class of a
    multiclass task. None if all classes together have too few pixels.
    """
    probabilities, truth = (np.concatenate(parts, axis=1) for parts in zip(*samples, strict=True))
    if np.count_nonzero(truth == 1) < MIN_PIXELS:
        return None
    if task == "multiclass":
        return (_fit(*_multiclass(probabilities, truth, background)),) * len(truth)
    signed = [_signed_logits(*one) for one in zip(probabilities, truth, strict=True)]
    shared = _fit(_binary_loss, np.concatenate(signed))
    has_enough = [np.count_nonzero(one == 1) >= MIN_PIXELS for one in truth]
    return tuple(
        _fit(_binary_loss, one) if is_enough else shared for one, is_enough in zip(signed, has_enough, strict=True)
    )


def _fit(loss: Callable[[Any, float], float], data: Any) -> float:
    low, high = map(math.log, TEMPERATURE_RANGE)
    optimum = minimize_scalar(lambda log: loss(data, math.exp(log)), bounds=(low, high), method="bounded")
    return float(f"{math.exp(optimum.x):.4g}")


def _signed_logits(probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Logits (N,) of the known pixels, positive where the prediction is right."""
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
    """Choose the score that ranks the images best, and the limit above which an image is flagged.

    Args:
        candidates: one column per score, one row per image.
        dice: (N,) of each image, NaN if undefined.

    Returns:
        score, look_above, rank_correlation (Spearman's, per candidate; None if undefined), num_images (with a
        Dice), num_low (below ``settings.dice_below``), flagged (share of all images), dice_below and catch.
    """
    known, low = ~np.isnan(dice), np.nan_to_num(dice, nan=math.inf) < settings.dice_below
    ranks = candidates[known].rank()
    correlation = (
        -ranks.corrwith(pd.Series(dice[known], index=ranks.index).rank()) if ranks.nunique().max() > 1 else None
    )
    correlations = {name: float("nan") if correlation is None else float(correlation[name]) for name in candidates}
    score = max(correlations, key=lambda name: -math.inf if math.isnan(correlations[name]) else correlations[name])
    values = candidates[score].to_numpy()
    limit = flag_limit(values, low, settings.catch)
    return {
        "score": score,
        "look_above": limit,
        "rank_correlation": {name: None if math.isnan(value) else value for name, value in correlations.items()},
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
