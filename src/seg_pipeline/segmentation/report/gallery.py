"""Galleries of test images: best, worst, missed objects, false positives, and differences from another run."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.intensities import read_for_display
from seg_pipeline.segmentation.manifest.table import read_shown_masks
from seg_pipeline.segmentation.plotting.overlays import overlay_prediction, resized
from seg_pipeline.segmentation.report.page import jpeg_url
from seg_pipeline.segmentation.report.results import Results, score

SIDE = 300
"""Longer side in pixels of each half: the image, and the image with its masks."""
MAX_SCORES = 6
"""Classes whose Dice is listed below an image."""
EMPTY = "correctly empty"
"""Caption instead of Dice if neither ground truth nor prediction has a class."""


def galleries(results: Results, number: int) -> dict[str, list[dict[str, str]]]:
    """At most ``number`` test images per gallery, in the order shown; a gallery may be empty, and two may share images.

    Each image has source (data URL), image_id, caption and alt (text for screen readers). Without scores or predictions
    there are no galleries. "differences" exists only if there is another run; its images show both predictions.
    """
    rows, predictions, names = results.image_scores, results.predictions, results.classes
    if rows is None or predictions is None:
        return {}
    ranked = rows.groupby("image_id")["dice"].mean().dropna().sort_values(kind="stable")
    middle = max(0, len(ranked) // 2 - number // 2)
    selected = {
        "worst": list(ranked.index[:number]),
        "missed": _by_area(rows, number, "false_neg"),
        "false_positives": _by_area(_rows_of_empty_images(rows), number, "false_pos"),
        "median": list(ranked.index[middle : middle + number]),
        "best": list(ranked.index[::-1][:number]),
    }
    all_ids = sorted({image_id for image_ids in selected.values() for image_id in image_ids})
    scores = scores_by_image(results, all_ids)
    pairs = _truths_and_predictions(results, predictions, all_ids)
    images = {image_id: _gallery_image(*pair, scores[image_id], names) for image_id, pair in pairs}
    by_gallery = {name: [images[image_id] for image_id in image_ids] for name, image_ids in selected.items()}
    if results.other_predictions is not None:
        by_gallery["differences"] = list(_differences(results, results.other_predictions, number))
    return by_gallery


def scores_by_image(results: Results, image_ids: list[str]) -> dict[str, pd.DataFrame]:
    """The rows of the image scores, by image."""
    rows = results.image_scores
    if rows is None:
        return {}
    return {str(image_id): part for image_id, part in rows[rows["image_id"].isin(image_ids)].groupby("image_id")}


def _truths_and_predictions(
    results: Results, predictions: pd.DataFrame, image_ids: list[str]
) -> Iterator[tuple[str, tuple[dict, dict]]]:
    """Per image, its row of the manifest and of the predictions."""
    truths = results.manifest.set_index("image_id", drop=False).loc[image_ids].to_dict("index")
    predicted = predictions.assign(ignore="").set_index("image_id", drop=False).loc[image_ids].to_dict("index")
    return ((image_id, (truths[image_id], predicted[image_id])) for image_id in image_ids)


def _differences(results: Results, other: pd.DataFrame, number: int) -> Iterator[dict[str, str]]:
    """Images whose mean Dice differs most between the two runs: this run's prediction beside the other's."""
    if results.comparison is None or results.predictions is None:
        return
    means = results.comparison.groupby("image_id")[["dice", "other_dice", "difference"]].mean()
    ranked = means[means["difference"] != 0].sort_values("difference", key=abs, ascending=False, kind="stable")
    image_ids = list(ranked.index[:number])
    others = dict(_truths_and_predictions(results, other, image_ids))
    for image_id, (truth, prediction) in _truths_and_predictions(results, results.predictions, image_ids):
        both = [_image_and_overlay(truth, row, results.classes)[1] for row in (prediction, others[image_id][1])]
        dice, other_dice, change = means.loc[image_id]
        yield {
            "source": jpeg_url(np.concatenate(both, axis=1), max_side=2 * SIDE),
            "image_id": image_id,
            "caption": f"mean Dice {dice:.2f} (left) against {other_dice:.2f} (right): {change:+.2f}",
            "alt": f"{image_id}: prediction of this run on the left, of the other run on the right",
        }


def _by_area(rows: pd.DataFrame, number: int, error: str) -> list[str]:
    """Images with the most pixels of this error, counting only classes without a correct pixel."""
    wrong = rows[(rows["true_pos"] == 0) & (rows[error] > 0)].groupby("image_id")[error].sum()
    return list(wrong.sort_values(ascending=False, kind="stable").index[:number])


def _rows_of_empty_images(rows: pd.DataFrame) -> pd.DataFrame:
    truth = (rows["true_pos"] + rows["false_neg"]).groupby(rows["image_id"]).transform("sum")
    return rows[truth == 0]


def _gallery_image(truth: dict, prediction: dict, scores: pd.DataFrame, names: list[str]) -> dict[str, str]:
    mean = score(scores["dice"].mean(), 2)
    return {
        "source": jpeg_url(np.concatenate(_image_and_overlay(truth, prediction, names), axis=1), max_side=2 * SIDE),
        "image_id": truth["image_id"],
        "caption": scores_caption(scores),
        "alt": f"{truth['image_id']}: image on the left, ground truth and prediction on the right; mean Dice {mean}",
    }


def _image_and_overlay(truth: dict, prediction: dict, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The image, and the image with ground truth and prediction, of the same size."""
    image = read_for_display(truth["path"])
    true, predicted = (read_shown_masks(row, names, side=SIDE) for row in (truth, prediction))
    overlaid = overlay_prediction(image, true, predicted, side=SIDE)
    return resized(image, overlaid.shape[:2]), overlaid


def scores_caption(scores: pd.DataFrame) -> str:
    """Mean Dice, then Dice of the classes in the ground truth or the prediction, lowest first."""
    defined = scores.dropna(subset=["dice"]).sort_values("dice", kind="stable")
    if defined.empty:
        return EMPTY
    parts = [f"{row['class']} {row['dice']:.2f}" for row in defined.head(MAX_SCORES).to_dict("records")]
    more = f" and {len(defined) - MAX_SCORES} more" if len(defined) > MAX_SCORES else ""
    return f"mean Dice {defined['dice'].mean():.2f}: {', '.join(parts)}{more}"
