"""clDice: how well the centrelines of thin structures, such as vessels, are found (Shit et al. 2021, CVPR)."""

import math

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.manifest.table import iter_records, read_masks
from seg_pipeline.segmentation.metrics.aggregation import Aggregator, as_mean
from seg_pipeline.segmentation.metrics.overlap import IF_EMPTY
from seg_pipeline.segmentation.metrics.summary import add_score
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads, num_threads


def cldice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Harmonic mean of the fraction of the predicted centreline inside the true mask, and of the true centreline inside
    the prediction.

    Args:
        predicted, truth: bool (H, W).

    Returns:
        NaN if both masks are empty, 0 if one is.
    """
    from skimage.morphology import skeletonize  # an optional package; the settings check that it is installed

    if not (predicted.any() or truth.any()):
        return math.nan
    shares = []
    for mask, other in ((predicted, truth), (truth, predicted)):
        centreline = skeletonize(mask)
        shares.append(float(other[centreline].mean()) if centreline.any() else 0.0)
    return 2 * shares[0] * shares[1] / sum(shares) if any(shares) else 0.0


def score_split(
    truth: pd.DataFrame, predictions: pd.DataFrame, names: list[str], *, workers: int | None = None
) -> np.ndarray:
    """clDice of each image and class, in the order of the rows: float64 (N, C), NaN if both masks are empty.

    Ignored pixels are outside both masks.
    """

    def score(pair: tuple[dict, dict]) -> list[float]:
        row, prediction = pair
        predicted, masks = read_masks({**prediction, "ignore": ""}, names) == 1, read_masks(row, names)
        return [
            cldice(prediction_mask & (mask != IGNORE), mask == 1)
            for prediction_mask, mask in zip(predicted, masks, strict=True)
        ]

    pairs = zip(iter_records(truth), iter_records(predictions), strict=True)
    return np.array(list(map_in_threads(score, pairs, workers=num_threads(workers))))


def add(scores: dict, values: np.ndarray, groups: pd.Series, aggregator: Aggregator, confidence: float) -> None:
    """Add the result of ``score_split`` to the scores of the same images, with intervals.

    Like distances, it is averaged over images under any aggregation.
    """
    filled = np.where(np.isnan(values), IF_EMPTY[aggregator.empty_policy], values)
    estimate = aggregator._replace(aggregation="dataset").estimate_ratio(as_mean(filled), groups)
    add_score(scores, scores["classes"], "cldice", estimate, confidence)
