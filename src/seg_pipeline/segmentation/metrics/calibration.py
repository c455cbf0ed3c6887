"""Whether of the pixels given a probability of 0.8 for a class four in five are of it.

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
    """Sums of all images in ``BINS`` equal bins of the probability; memory does not grow with the images."""

    def __init__(self, classes: list[str]) -> None:
        self.classes = classes
        shape = len(classes), BINS
        self._pixels, self._true = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        self._probability = np.zeros(shape)

    def update(self, probabilities: np.ndarray, masks: np.ndarray) -> None:
        """One image: float32 (C, H, W), and masks uint8 (C, H, W) of 0, 1 and ``IGNORE``."""
        for index, (probability, mask) in enumerate(zip(probabilities, masks, strict=True)):
            if mask.max() == IGNORE:
                known = mask != IGNORE
                probability, mask = probability[known], mask[known]  # noqa: PLW2901
            self._add(index, probability, mask)

    def _add(self, index: int, probability: np.ndarray, mask: np.ndarray) -> None:
        """Most pixels lie in the first bin: its sums are those of all less those of the others, five times as quick."""
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
        """A row a class and bin: mean probability (confidence), share that is of the class (frequency), pixels."""
        with np.errstate(invalid="ignore"):  # 0 / 0: a bin without pixels
            confidence, frequency = self._probability / self._pixels, self._true / self._pixels
        rows = [
            (name, number, confidence[index, number], frequency[index, number], self._pixels[index, number])
            for index, name in enumerate(self.classes)
            for number in range(BINS)
        ]
        return pd.DataFrame(rows, columns=COLUMNS)


def expected_error(reliability: pd.DataFrame) -> dict[str, float]:
    """ECE of each class: mean of |frequency - confidence| over its pixels (Guo et al. 2017), in bins; NaN of none.

    Each class against the rest (classwise ECE, Kull et al. 2019), so that it serves classes that overlap too.
    """
    found = {}
    for name, rows in reliability.groupby("class", sort=False):
        filled = rows[rows["pixels"] > 0]
        gap = (filled["frequency"] - filled["confidence"]).abs()
        found[str(name)] = float(np.average(gap, weights=filled["pixels"])) if len(filled) else math.nan
    return found
