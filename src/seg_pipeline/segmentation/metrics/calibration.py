"""Calibration: how well predicted probabilities match observed frequencies.

Of the pixels with a probability of 0.8 for a class, four in five should belong to it.

Axes: C classes, H rows, W columns.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.masks import IGNORE

BINS = 15
"""As in Guo et al. 2017, "On Calibration of Modern Neural Networks", ICML."""

COLUMNS = ["class", "bin", "confidence", "frequency", "pixels"]


class Calibration:
    """Accumulates all images in ``BINS`` equal-width bins of probability; memory does not grow with their number."""

    def __init__(self, classes: list[str]) -> None:
        self.classes = classes
        shape = len(classes), BINS
        self._pixels, self._true = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        self._probability = np.zeros(shape)

    def update(self, probabilities: np.ndarray, masks: np.ndarray) -> None:
        """Add one image: probabilities float32 (C, H, W), masks uint8 (C, H, W) of 0, 1 and ``IGNORE``."""
        for index, (probability, mask) in enumerate(zip(probabilities, masks, strict=True)):
            if mask.max() == IGNORE:
                known = mask != IGNORE
                probability, mask = probability[known], mask[known]  # noqa: PLW2901
            self._add(index, probability, mask)

    def _add(self, index: int, probability: np.ndarray, mask: np.ndarray) -> None:
        """Add one class. Most pixels are in the first bin: total minus the other bins is five times faster."""
        above = probability >= np.float32(1 / BINS)
        values, true = probability[above], mask[above] == 1
        bins = np.minimum((values * BINS).astype(np.int64), BINS - 1)
        counts = [np.bincount(bins, minlength=BINS), np.bincount(bins[true], minlength=BINS)]
        sums = np.bincount(bins, values, minlength=BINS)
        self._pixels[index] += counts[0]
        self._true[index] += counts[1]
        self._probability[index] += sums
        self._pixels[index, 0] += probability.size - len(values)
        self._true[index, 0] += np.count_nonzero(mask) - np.count_nonzero(true)
        self._probability[index, 0] += probability.sum(dtype=np.float64) - sums.sum()

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


def expected_error(reliability: pd.DataFrame) -> dict[str, float]:
    """Expected calibration error per class: the bins' mean |frequency - confidence|, weighted by their pixels.

    Guo et al. 2017, for each class against the rest (classwise ECE, Kull et al. 2019), which also suits classes that
    overlap. NaN for a class without pixels.
    """
    found = {}
    for name, rows in reliability.groupby("class", sort=False):
        filled = rows[rows["pixels"] > 0]
        gap = (filled["frequency"] - filled["confidence"]).abs()
        found[str(name)] = float(np.average(gap, weights=filled["pixels"])) if len(filled) else math.nan
    return found
