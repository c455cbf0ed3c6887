"""Predictions against truth at native resolution: scores by class and image, and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from seg_pipeline.segmentation import metrics
from seg_pipeline.segmentation.manifest import class_names, read_masks
from seg_pipeline.segmentation.metrics import Counts, OverlapCounts
from seg_pipeline.segmentation.recipe import Aggregation, EmptyPolicy

BACKGROUND = "background"


def score_predictions(
    manifest: pd.DataFrame, predictions: pd.DataFrame, *, aggregation: Aggregation, empty_policy: EmptyPolicy
) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """Scores of all predicted images.

    Args:
        manifest: truth; images without a prediction are left out.
        predictions: image_id and mask_<class>, as the manifest has them.
        aggregation, empty_policy: of the scores at the top, as in ``metrics.class_scores``.

    Returns:
        The scores (plain values, None where undefined; both aggregations under "by_aggregation"); a row
        per image and class with counts, Dice and IoU (missing where neither shows the class); and
        pixels by true class (rows) and predicted class (columns), as in ``metrics.confusion``.

    Raises:
        ValueError: the classes or image ids of the two tables differ.
    """
    names = class_names(manifest)
    truth = matching_rows(manifest, predictions)
    overlap, confusion = OverlapCounts(), torch.zeros(len(names) + 1, len(names) + 1, dtype=torch.int64)
    for predicted, masks in _pairs(truth, predictions, names):
        overlap.update(metrics.count(predicted, masks))
        confusion += metrics.confusion(predicted, masks)
    counts = overlap.compute()
    both = {kind: _summary(counts, names, kind, empty_policy) for kind in ("image", "dataset")}
    about = {"aggregation": aggregation, "empty_policy": empty_policy, "num_images": len(truth)}
    accuracy = {"pixel_accuracy": metrics.pixel_accuracy(counts)}
    scores = {**both[aggregation], **about, **accuracy, "by_aggregation": both}
    labels = [*names, BACKGROUND]
    return (
        scores,
        _by_image(truth, counts, names),
        pd.DataFrame(confusion.numpy(), index=labels, columns=labels),
    )


def matching_rows(manifest: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Rows of the manifest in the order of the predictions.

    Raises:
        ValueError: the predictions are of other classes, or of images that the manifest lacks.
    """
    found, expected = class_names(predictions), class_names(manifest)
    if found != expected:
        raise ValueError(f"predictions are of the classes {found}, the manifest has {expected}: predict again")
    rows = predictions[["image_id"]].merge(manifest, on="image_id", validate="one_to_one")
    if len(rows) != len(predictions):
        lost = sorted(set(predictions["image_id"]) - set(rows["image_id"]))
        raise ValueError(f"{len(lost)} predicted images are not in the manifest ({', '.join(lost[:3])}): predict again")
    return rows


def _pairs(truth: pd.DataFrame, predictions: pd.DataFrame, names: list[str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Predicted masks bool (1, C, H, W) and true ones uint8 (1, C, H, W) of each image."""
    rows = zip(truth.to_dict("records"), predictions.to_dict("records"), strict=True)
    for true, predicted in tqdm(rows, total=len(truth), desc="scoring", unit="image", disable=None):
        masks = read_masks({**predicted, "ignore": ""}, names)
        yield torch.from_numpy(masks)[None] == 1, torch.from_numpy(read_masks(true, names))[None]


def _summary(counts: Counts, names: list[str], aggregation: Aggregation, empty_policy: EmptyPolicy) -> dict:
    scores = metrics.class_scores(counts, aggregation=aggregation, empty_policy=empty_policy)
    shown = (counts.true_pos + counts.false_neg > 0).sum(0).tolist()
    classes = {
        name: {"dice": _plain(scores["dice"][c]), "iou": _plain(scores["iou"][c]), "num_images": shown[c]}
        for c, name in enumerate(names)
    }
    means = {f"mean_{kind}": _plain(scores[kind].nanmean()) for kind in ("dice", "iou")}
    return {**means, "classes": classes}


def _plain(value: Tensor) -> float | None:
    return None if math.isnan(value) else value.item()


def _by_image(truth: pd.DataFrame, counts: Counts, names: list[str]) -> pd.DataFrame:
    dice, iou = metrics.dice(counts, if_empty=math.nan), metrics.iou(counts, if_empty=math.nan)
    parts = [
        truth[["image_id", "group"]].assign(
            **{"class": name},
            dice=dice[:, c].numpy(),
            iou=iou[:, c].numpy(),
            true_pos=counts.true_pos[:, c].numpy(),
            false_pos=counts.false_pos[:, c].numpy(),
            false_neg=counts.false_neg[:, c].numpy(),
        )
        for c, name in enumerate(names)
    ]
    return pd.concat(parts, ignore_index=True)
