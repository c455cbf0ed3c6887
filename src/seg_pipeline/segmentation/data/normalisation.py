"""Normalisation: stored pixel values become uint8 once; the network then subtracts a mean and divides by a deviation.

| normalisation | values that become 0 and 255 | mean and deviation (of values in 0..1) |
|---|---|---|
| encoder | stored values unchanged; the upper 8 of 16 bits | the encoder's |
| percentile | two percentiles of each image | the encoder's |
| fixed | two stored values | the encoder's |
| image | mean - 4 and mean + 4 deviations of each image | 1/2 and 1/8: zero mean and unit deviation |
| training | two percentiles of the train images | measured on the train images |
"""

import cv2
import numpy as np
import pandas as pd

from seg_pipeline.segmentation.data.geometry import Shape, resize_image
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.images.intensities import percentiles, scale_values, to_8bit, to_grey
from seg_pipeline.segmentation.settings.training import InputSettings

PERCENTILES = (1.0, 99.0)
DEVIATIONS = 4.0
"""Deviations on each side of an image's mean; values beyond are clipped."""
MAX_MEASURED = 300
"""Largest number of train images read to measure statistics."""

Statistics = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def stored_pixels(image: np.ndarray, settings: InputSettings, shape: Shape | None = None) -> np.ndarray:
    """Convert an image from ``read_image`` to uint8: (H, W, 3) for rgb, else grey (H, W, 1).

    Args:
        shape: height and width to resize to, by ``resize_image``; None: those of the image.

    Raises:
        ValueError: ``normalisation`` is training, but its statistics have not been measured.
    """
    values = image if settings.channels == "rgb" else to_grey(image)
    window = _window(values, settings)
    scaled = to_8bit(values) if window is None else scale_values(values, *window)
    pixels = scaled if scaled.ndim == 3 else scaled[..., None]
    pixels = pixels if shape is None else resize_image(pixels, shape)  # before RGB: grey takes a third of the time
    grey_to_rgb = settings.channels == "rgb" and pixels.shape[2] == 1
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if grey_to_rgb else pixels


def _window(values: np.ndarray, settings: InputSettings) -> tuple[float, float] | None:
    """Values of an image that become 0 and 255; None: unchanged."""
    if settings.normalisation == "percentile":
        return percentiles(values, settings.window or PERCENTILES)
    if settings.normalisation == "image":
        mean, reach = float(values.mean()), DEVIATIONS * (float(values.std()) or 1)  # a blank image has no deviation
        return mean - reach, mean + reach
    if settings.normalisation == "training":
        low, high = _statistics(settings)[0]
        return low, high
    return settings.window  # fixed; None for encoder


def mean_std(settings: InputSettings, encoder: Normalisation) -> Normalisation:
    """Mean and standard deviation per channel, in 0..1, that the network normalises with.

    Args:
        encoder: mean and deviation that the encoder's weights expect of red, green and blue; grey uses their means.

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
    statistics, count = settings.statistics, settings.num_channels
    if statistics is None:
        raise ValueError("`normalisation: training` needs `statistics`; measure them with `training_statistics`")
    if [len(part) for part in statistics] != [2, count, count]:
        raise ValueError(
            f"`statistics` must be (low, high), {count} means and {count} deviations, "
            f"found {', '.join(str(len(part)) for part in statistics)} numbers"
        )
    low_high, means, deviations = statistics
    return low_high, means, deviations


def training_statistics(rows: pd.DataFrame, settings: InputSettings) -> Statistics:
    """Measure (low, high) stored values, then mean and deviation per channel of the values scaled to 0..1.

    Uses at most ``MAX_MEASURED`` of the manifest ``rows``, evenly spread.
    """
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_MEASURED)).round().astype(int))
    planes = 3 if settings.channels == "rgb" else 1
    counts = np.zeros((planes, 2**16), dtype=np.int64)
    for path in rows["path"].iloc[chosen]:
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
    """Percentiles of a histogram of the values 0, 1, 2, ..."""
    ranks = np.multiply(shares, counts.sum() / 100)
    low, high = np.searchsorted(counts.cumsum(), ranks.clip(min=1))
    return float(low), float(high)
