"""Overlap of predicted and true masks. Pixels are counted per image; scores are computed from the counts.

Axes: B images of a batch, N images of a data set, C classes, H rows, W columns. The ground truth is uint8 of 0, 1
and ``IGNORE``; ignored pixels count nowhere. Sources: Dice 1945; Jaccard 1901 (IoU).

Why not torchmetrics: it supports neither ignored pixels for overlapping classes nor counts per image, from which all
scores of images, groups and bootstrap samples are computed here. Counting takes a thirtieth of its time
(``python benchmarks/scoring.py``), and importing it would add a second to the start of every search worker. The tests
compare these scores with torchmetrics'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.settings.training import Aggregation, EmptyPolicy

IF_EMPTY: dict[str, float] = {"skip": math.nan, "zero": 0.0, "one": 1.0}


class Counts(NamedTuple):
    """Pixel counts of each image: int64, (N, C) per class, (N,) over all classes."""

    true_pos: Tensor
    false_pos: Tensor
    false_neg: Tensor
    right: Tensor
    """Known pixels for which every class is predicted correctly."""
    known: Tensor

    @classmethod
    def empty(cls, num_classes: int, device: torch.device) -> Counts:
        """Counts of no image: (0, C) and (0,)."""
        by_class, over_all = (torch.zeros(shape, dtype=torch.int64, device=device) for shape in ((0, num_classes), 0))
        return cls(by_class, by_class, by_class, over_all, over_all)


class ImageCounts(NamedTuple):
    """All counts that scores need, per image: int64 (N, C) per class, (N,) over all classes.

    The first five are ``Counts``; ``surface_distances.compare`` defines the others.
    """

    true_pos: Tensor
    false_pos: Tensor
    false_neg: Tensor
    right: Tensor
    known: Tensor
    boundary_both: Tensor
    boundary_either: Tensor
    surface_near: Tensor
    surface_all: Tensor
    hd95: Tensor
    """Float64 (N, C); NaN if ground truth and prediction are both empty."""
    diagonal: Tensor
    """Float64 (N,): the image diagonal, the largest possible hd95."""

    @property
    def overlap(self) -> Counts:
        return Counts(*self[:5])

    def of_images(self, positions: np.ndarray) -> ImageCounts:
        """Counts of some of the images."""
        return ImageCounts(*(value[torch.from_numpy(positions)] for value in self))


def count(predicted: Tensor, masks: Tensor) -> Counts:
    """Count bool predictions (B, C, H, W) against masks uint8 (B, C, H, W)."""
    known = masks != IGNORE
    truth = masks == 1
    hits = (predicted & truth).sum((-2, -1))
    all_known = known.all(1)
    wrong = ((predicted != truth) & known).any(1)
    return Counts(
        true_pos=hits,
        false_pos=(predicted & known).sum((-2, -1)) - hits,
        false_neg=truth.sum((-2, -1)) - hits,
        right=(all_known & ~wrong).sum((-2, -1)),
        known=all_known.sum((-2, -1)),
    )


def count_labels(predicted: Tensor, truth: Tensor, *, num_classes: int, background: bool) -> Counts:
    """``count`` for label maps with one channel number per pixel: both int (B, H, W), ``IGNORE`` if unknown."""
    known = truth != IGNORE
    hit = (predicted == truth) & known
    predicted = torch.where(known, predicted, IGNORE)
    hits, predicted_counts, true_counts = (
        torch.stack([(where == channel).sum((-2, -1)) for channel in range(background, num_classes + background)], 1)
        for where in (torch.where(hit, truth, IGNORE), predicted, truth)
    )
    return Counts(hits, predicted_counts - hits, true_counts - hits, right=hit.sum((-2, -1)), known=known.sum((-2, -1)))


AnyCounts = TypeVar("AnyCounts", Counts, ImageCounts)


class Collected(Generic[AnyCounts]):
    """Collects the counts of images in order.

    Args:
        at_once: number of parts to hold before they are concatenated. Many small, long-lived tensors fragment the
            heap: 4 MiB per training step were never returned.
    """

    def __init__(self, *, at_once: int = 8) -> None:
        self.at_once = at_once
        self._parts: list[AnyCounts] = []

    def add(self, counts: AnyCounts) -> None:
        self._parts.append(counts)
        if len(self._parts) >= self.at_once:
            self._parts = [concatenate(self._parts)]

    def all(self) -> AnyCounts:
        return concatenate(self._parts)


def concatenate(parts: Sequence[AnyCounts]) -> AnyCounts:
    """Concatenate the counts of at least one part."""
    return type(parts[0])(*(torch.cat(values) for values in zip(*parts, strict=True)))


def dice_ratio(counts: Counts) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of Dice: 2TP and 2TP + FP + FN. Every Dice in this project is computed from these."""
    twice_hit = 2 * counts.true_pos
    return twice_hit, twice_hit + counts.false_pos + counts.false_neg


def iou_ratio(counts: Counts) -> tuple[Tensor, Tensor]:
    """Numerator and denominator of IoU: TP and TP + FP + FN."""
    return counts.true_pos, counts.true_pos + counts.false_pos + counts.false_neg


def dice(counts: Counts, *, if_empty: float) -> Tensor:
    """Dice, float64 of the counts' shape; ``if_empty`` where prediction and ground truth are both empty."""
    return _safe_divide(*dice_ratio(counts), if_empty)


def iou(counts: Counts, *, if_empty: float) -> Tensor:
    """IoU, float64 of the counts' shape; ``if_empty`` where prediction and ground truth are both empty."""
    return _safe_divide(*iou_ratio(counts), if_empty)


def _safe_divide(part: Tensor, whole: Tensor, if_empty: float) -> Tensor:
    return torch.where(whole > 0, part.double() / whole.clamp(min=1), if_empty)


def class_scores(counts: Counts, *, aggregation: Aggregation, empty_policy: EmptyPolicy) -> dict[str, Tensor]:
    """Dice and IoU of each class: float64 (C,), NaN if no image has a score.

    Args:
        counts: counts of N images.
        aggregation: "image" averages the scores of the images; "dataset" adds up the counts of all images and
            scores the sum.
        empty_policy: score if ground truth and prediction both lack the class; "skip" leaves the image out.
    """
    if aggregation == "dataset":
        counts = Counts(*(value.sum(0, keepdim=True) for value in counts))
    if_empty = IF_EMPTY[empty_policy]
    return {
        "dice": dice(counts, if_empty=if_empty).nanmean(0),
        "iou": iou(counts, if_empty=if_empty).nanmean(0),
    }


def mean_dice(counts: Counts, *, aggregation: Aggregation, empty_policy: EmptyPolicy) -> float:
    """Mean Dice over the classes that have a score; NaN if none has."""
    return class_scores(counts, aggregation=aggregation, empty_policy=empty_policy)["dice"].nanmean().item()


def pixel_accuracy(counts: Counts) -> float:
    """Fraction of the known pixels for which every class is predicted correctly."""
    return (counts.right.sum() / counts.known.sum()).item()


def confusion(predicted: Tensor, masks: Tensor) -> Tensor:
    """Pixels per true class (rows) and predicted class (columns): int64 (C + 1, C + 1), background last.

    A pixel with several true classes counts once in each of their rows. Its column is that class if predicted, else the
    first predicted class, else background. So each row adds up to the pixels of its class, and the diagonal divided by
    the row sum is the class's recall.

    Args:
        predicted: bool (B, C, H, W).
        masks: uint8 (B, C, H, W).
    """
    background = predicted.shape[1]
    first = torch.full_like(masks[:, 0], background, dtype=torch.int64)
    for index in reversed(range(background)):
        first.masked_fill_(predicted[:, index], index)
    matrix = torch.zeros(background + 1, background + 1, dtype=torch.int64, device=masks.device)
    for index in range(background):
        truth = masks[:, index] == 1
        missed = truth & ~predicted[:, index]  # few: hits, the majority, are only counted
        matrix[index] = torch.bincount(first[missed], minlength=background + 1)
        matrix[index, index] = truth.sum() - missed.sum()
    matrix[background] = torch.bincount(first[(masks == 0).all(1)], minlength=background + 1)
    return matrix
