"""From stored pixel values to the network's: first uint8, once, then mean and deviation, within the network.

| normalisation | becomes 0 and 255 | mean and deviation (of values in 0..1) |
|---|---|---|
| encoder | stored values as they are; of 16 bits the upper 8 | the encoder's |
| percentile | two percentiles of each image | the encoder's |
| fixed | two stored values | the encoder's |
| image | mean - 4 and mean + 4 deviations of each image | 1/2 and 1/8: zero mean and unit deviation |
| training | two percentiles of the train images | measured on the train images |
"""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.decoding import percentiles, read_image, scale_values, to_8bit, to_grey
from seg_pipeline.segmentation.settings.training import InputSettings

PERCENTILES = (1.0, 99.0)
DEVIATIONS = 4.0
"""On each side of an image's mean; what lies beyond is cut off."""
MAX_MEASURED = 300
"""Train images that are read for their statistics."""

Statistics = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def stored_pixels(image: np.ndarray, settings: InputSettings) -> np.ndarray:
    """Uint8 (H, W, 3) for rgb, else the grey values (H, W, 1), of an image as ``read_image`` gives it.

    Raises:
        ValueError: ``normalisation`` is training and its statistics are not measured yet.
    """
    values = image if settings.channels == "rgb" else to_grey(image)
    window = _window(values, settings)
    scaled = to_8bit(values) if window is None else scale_values(values, *window)
    if settings.channels != "rgb":
        return scaled[..., None]
    return scaled if scaled.ndim == 3 else cv2.cvtColor(scaled, cv2.COLOR_GRAY2RGB)


def _window(values: np.ndarray, settings: InputSettings) -> tuple[float, float] | None:
    """Values of an image that become 0 and 255; None: as they are."""
    if settings.normalisation == "percentile":
        return percentiles(values, settings.window or PERCENTILES)
    if settings.normalisation == "image":
        mean, reach = float(values.mean()), DEVIATIONS * (float(values.std()) or 1)  # a blank image is all mean
        return mean - reach, mean + reach
    if settings.normalisation == "training":
        low, high = _statistics(settings)[0]
        return low, high
    return settings.window  # fixed; None for encoder


def mean_std(settings: InputSettings, encoder: Normalisation) -> Normalisation:
    """Mean and deviation of each channel, in 0..1, that the network takes off.

    Args:
        encoder: of red, green and blue, as the encoder's weights expect them; grey values take their means.

    Raises:
        ValueError: as ``stored_pixels``.
    """
    count = settings.num_channels
    if settings.normalisation == "image":
        return (0.5,) * count, (0.5 / DEVIATIONS,) * count
    if settings.normalisation == "training":
        _, means, deviations = _statistics(settings)
        return means, deviations
    if settings.channels == "rgb":
        return encoder
    mean, deviation = (sum(values) / len(values) for values in encoder)
    return (mean,) * count, (deviation,) * count


def _statistics(settings: InputSettings) -> Statistics:
    found, count = settings.statistics, settings.num_channels
    if found is None:
        raise ValueError("`normalisation: training` needs `statistics`; measure them with `training_statistics`")
    if [len(part) for part in found] != [2, count, count]:
        raise ValueError(
            f"`statistics` must be (low, high), {count} means and {count} deviations, "
            f"found {', '.join(str(len(part)) for part in found)} numbers"
        )
    low_high, means, deviations = found
    return low_high, means, deviations


def training_statistics(rows: pd.DataFrame, settings: InputSettings) -> Statistics:
    """(low, high) stored values, then mean and deviation a channel of the values scaled to 0..1.

    Measured on ``rows`` of the manifest, of more than ``MAX_MEASURED`` on so many that are evenly spread.
    """
    picked = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_MEASURED)).round().astype(int))
    planes = 3 if settings.channels == "rgb" else 1
    counts = np.zeros((planes, 2**16), dtype=np.int64)
    for path in rows["path"].iloc[picked]:
        counts += _value_counts(path, planes)
    low, high = _percentiles(counts.sum(axis=0), settings.window or PERCENTILES)
    scaled = scale_values(np.arange(2**16, dtype=np.uint16), low, high) / 255
    means = counts @ scaled / counts.sum(axis=1)
    deviations = np.sqrt(counts @ scaled**2 / counts.sum(axis=1) - means**2)
    repeat = settings.num_channels // planes  # frames share their statistics
    return (low, high), tuple(means.tolist()) * repeat, tuple(deviations.clip(1 / 255).tolist()) * repeat


def _value_counts(path: str, planes: int) -> np.ndarray:
    """How often an image has each stored value: int64 (planes, 65536)."""
    image = read_image(path)
    if planes == 1 or image.ndim == 2:
        return np.tile(np.bincount(to_grey(image).ravel(), minlength=2**16), (planes, 1))
    return np.stack([np.bincount(image[..., plane].ravel(), minlength=2**16) for plane in range(planes)])


def _percentiles(counts: np.ndarray, shares: tuple[float, float]) -> tuple[float, float]:
    """Of the values 0, 1, 2 ... that occur so many times."""
    ranks = np.multiply(shares, counts.sum() / 100)
    low, high = np.searchsorted(counts.cumsum(), ranks.clip(min=1))
    return float(low), float(high)
