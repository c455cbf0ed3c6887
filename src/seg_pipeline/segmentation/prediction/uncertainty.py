"""Calibrate probabilities, and measure how uncertain a prediction is.

Axes: K channels of the probabilities (the background first, if there is one), H rows, W columns.
This module does not import torch, because exported models use it too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, UncertaintyScore, argmax_masks
from seg_pipeline.segmentation.settings.training import Task

BAND = 0.01
"""Half the width of the band along the borders, as a share of the image's diagonal."""


class Uncertainty(NamedTuple):
    score: float
    """0: certain; 1: uncertain."""
    look_at_this: bool | None
    """Whether a person should look at the image; None: no limit has been chosen."""


def calibrated(probabilities: np.ndarray, temperatures: tuple[float, ...] | None, task: Task) -> np.ndarray:
    """Divide the logits of probabilities, float32 (K, H, W), by the temperatures of the classes.

    A temperature above 1 moves probabilities towards 0.5 but never past it, so masks at the threshold 0.5 stay the
    same. In a multiclass task all channels have one temperature, so the most probable class stays the same. Gaps
    between objects, which follow the classes, are unchanged.
    """
    if temperatures is None:
        return probabilities
    if task == "multiclass":
        powers = cv2.pow(probabilities, 1 / temperatures[0])
        return powers / powers.sum(0)
    classes, gaps = np.split(probabilities, [len(temperatures)])
    with np.errstate(divide="ignore"):
        odds = (1 - classes) / classes
    powers = np.stack([cv2.pow(class_odds, 1 / value) for class_odds, value in zip(odds, temperatures, strict=True)])
    return np.concatenate([1 / (1 + powers), gaps])


def entropy_map(probabilities: np.ndarray, task: Task) -> np.ndarray:
    """Entropy of each pixel as a fraction of its maximum, float32 (H, W): the largest over the classes in a multilabel
    task, that of the distribution over the channels in a multiclass task."""
    if task == "multiclass":
        bits = _information(probabilities).sum(0) / math.log(max(2, len(probabilities)))
    else:
        bits = (_information(probabilities) + _information(1 - probabilities)).max(0) / math.log(2)
    return np.clip(bits, 0, 1)


def spread_map(votes: Sequence[np.ndarray]) -> np.ndarray:
    """How much several predictions of one image, float32 (K, H, W), differ at each pixel: float32 (H, W).

    Twice the largest standard deviation of a channel: 0 where all agree, 1 where one half is certain of the opposite.
    """
    return np.clip(2 * np.std(votes, axis=0).max(0), 0, 1)


def _information(share: np.ndarray) -> np.ndarray:
    return -share * np.log(np.maximum(share, np.float32(1e-30)))


def image_uncertainty(
    probabilities: np.ndarray, settings: Postprocessing, *, task: Task, background: bool
) -> Uncertainty:
    """Score of calibrated probabilities by the method in ``settings``, and whether it reaches their limit."""
    without_gaps = probabilities[: int(background) + len(settings.fill_holes)]  # without the gaps between objects
    score = SCORES[settings.uncertainty](without_gaps, task, background)
    return Uncertainty(score, None if settings.look_above is None else score >= settings.look_above)


def _one_minus_expected_dice(probabilities: np.ndarray, task: Task, background: bool) -> float:
    """1 minus the Dice to expect if the probabilities are right, as the mean over the classes.

    A class without predicted pixels has a Dice of 0 if it was missed, and none if it is absent. Its weight is therefore
    its largest probability.
    """
    masks, classes = _masks(probabilities, task, background), probabilities[int(background) :]
    inside = np.array(
        [float(probability[mask].sum(dtype=np.float64)) for probability, mask in zip(classes, masks, strict=True)]
    )
    areas, sums = masks.sum((1, 2)), classes.sum((1, 2), dtype=np.float64)
    weights = np.where(areas > 0, 1.0, classes.max((1, 2)))
    if not areas.any():
        return float(weights.max())
    dice = np.where(areas > 0, 2 * inside / np.maximum(areas + sums, 1e-9), 0)
    return float(1 - (weights * dice).sum() / weights.sum())


def _border_entropy(probabilities: np.ndarray, task: Task, background: bool) -> float:
    """Mean entropy of a band along the borders of the predicted objects; without objects, the largest entropy."""
    entropy, masks = entropy_map(probabilities, task), _masks(probabilities, task, background)
    radius = max(1, round(BAND * math.hypot(*entropy.shape)))
    square = np.ones((2 * radius + 1, 2 * radius + 1), dtype=np.uint8)
    band = np.zeros(entropy.shape, dtype=bool)
    for mask in masks[masks.any((1, 2))]:
        band |= cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_GRADIENT, square).view(bool)
    return float(entropy[band].mean() if band.any() else entropy.max())


def _mean_entropy(probabilities: np.ndarray, task: Task, background: bool) -> float:
    del background
    return float(entropy_map(probabilities, task).mean())


def _masks(probabilities: np.ndarray, task: Task, background: bool) -> np.ndarray:
    return probabilities > np.float32(0.5) if task == "multilabel" else argmax_masks(probabilities, background)


SCORES: dict[UncertaintyScore, Callable[[np.ndarray, Task, bool], float]] = {
    "expected_dice": _one_minus_expected_dice,
    "border_entropy": _border_entropy,
    "mean_entropy": _mean_entropy,
}
"""Candidates for the score of an image; evaluation uses the one that ranks the validation images best."""
