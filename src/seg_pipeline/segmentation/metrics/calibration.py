"""Calibration: how well predicted probabilities match observed frequencies.

Of the pixels with a probability of 0.8 for a class, 80 % should belong to it.

Axes: C classes, H rows, W columns.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.masks import IGNORE

BINS = 15
"""As in Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML."""

COLUMNS = ["class", "bin", "confidence", "frequency", "pixels"]


class BinCounts(NamedTuple):
    """Counts of one image for each class's bins, (C, ``BINS``) and (C,)."""

    pixels: np.ndarray
    true: np.ndarray
    probability: np.ndarray
    """Sums of the probabilities in the bins after the first."""
    first: np.ndarray
    """Sum of the probabilities in the first bin."""


def count_bins(probabilities: np.ndarray, masks: np.ndarray) -> BinCounts:
    """Count one image: probabilities float32 (C, H, W), masks uint8 (C, H, W) of 0, 1 and ``IGNORE``."""
    counts = [_count_class(*probability_and_mask) for probability_and_mask in zip(probabilities, masks, strict=True)]
    return BinCounts(*(np.array(values) for values in zip(*counts, strict=True)))


def _count_class(probability: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.float64]:
    """Most pixels are in the first bin, so computing it as total minus the other bins is five times faster."""
    above = probability >= np.float32(1 / BINS)
    known = probability
    if mask.max() == IGNORE:
        is_known = mask != IGNORE
        above &= is_known
        known = probability[is_known]
    indices = np.flatnonzero(above)
    values, true = probability.ravel()[indices], mask.ravel()[indices] == 1
    bins = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    misses, hits = np.bincount(bins + BINS * true, minlength=2 * BINS).reshape(2, BINS)
    pixels, sums = misses + hits, np.bincount(bins, values, minlength=BINS)
    pixels[0] += known.size - len(values)
    hits[0] += np.count_nonzero(mask == 1) - np.count_nonzero(true)
    return pixels, hits, sums, known.sum(dtype=np.float64) - sums.sum()


class Calibration:
    """Accumulates all images in ``BINS`` equal-width bins of probability; memory does not grow with their number."""

    def __init__(self, classes: list[str]) -> None:
        self.classes = classes
        shape = len(classes), BINS
        self._pixels, self._true = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        self._probability = np.zeros(shape)

    def update(self, probabilities: np.ndarray, masks: np.ndarray) -> None:
        """Add one image; see ``count_bins``."""
        self.add(count_bins(probabilities, masks))

    def add(self, counts: BinCounts) -> None:
        """Add one image's counts; the order of the images may change the last digits."""
        self._pixels += counts.pixels
        self._true += counts.true
        self._probability += counts.probability
        self._probability[:, 0] += counts.first

    def table(self) -> pd.DataFrame:
        """One row per class and bin: mean probability (confidence), fraction in the class (frequency), pixels."""
        with np.errstate(invalid="ignore"):  # 0 / 0: a bin without pixels
            confidence, frequency = self._probability / self._pixels, self._true / self._pixels
        rows = [
            (name, number, confidence[index, number], frequency[index, number], self._pixels[index, number])
            for index, name in enumerate(self.classes)
            for number in range(BINS)
        ]
        return pd.DataFrame(rows, columns=COLUMNS)


def before_and_after(uncalibrated: Calibration, calibration: Calibration | None) -> pd.DataFrame:
    """The tables of both, with a column ``calibrated``; ``calibration`` is None if no temperatures were fitted."""
    tables = [uncalibrated.table().assign(calibrated=False)]
    tables += [] if calibration is None else [calibration.table().assign(calibrated=True)]
    return pd.concat(tables, ignore_index=True)


def last_probabilities(reliability: pd.DataFrame) -> pd.DataFrame:
    """The rows of the probabilities in use: the calibrated ones, if any."""
    return reliability[reliability["calibrated"] == reliability["calibrated"].any()]


def expected_error(reliability: pd.DataFrame) -> dict[str, float]:
    """Expected calibration error per class: the bins' mean |frequency - confidence|, weighted by their pixels.

    Guo et al. 2017, for each class against the rest (classwise ECE, Kull et al. 2019), which also suits classes that
    overlap. NaN for a class without pixels.
    """
    errors = {}
    for name, rows in reliability.groupby("class", sort=False):
        filled = rows[rows["pixels"] > 0]
        gap = (filled["frequency"] - filled["confidence"]).abs()
        errors[str(name)] = float(np.average(gap, weights=filled["pixels"])) if len(filled) else math.nan
    return errors
