"""Galleries of test images: best, worst, missed objects and false positives."""

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.decoding import read_for_display
from seg_pipeline.segmentation.manifest.table import read_masks
from seg_pipeline.segmentation.plotting.overlays import overlay_prediction, resized
from seg_pipeline.segmentation.report.page import jpeg_url
from seg_pipeline.segmentation.report.results import Results, score

SIDE = 300
"""Longer side in pixels of each half: the image, and the image with its masks."""
MOST_SCORES = 6
"""Classes whose Dice is written below an image."""


def galleries(results: Results, number: int) -> dict[str, list[dict[str, str]]]:
    """At most ``number`` test images per gallery, in the order shown; a gallery may be empty, and two may share images.

    Each image has source (data URL), image_id, caption and alt (text for screen readers). Without scores or predictions
    there are no galleries.
    """
    rows, predictions, names = results.image_scores, results.predictions, results.classes
    if rows is None or predictions is None:
        return {}
    ranked = rows.groupby("image_id")["dice"].mean().dropna().sort_values(kind="stable")
    middle = max(0, len(ranked) // 2 - number // 2)
    selected = {
        "worst": list(ranked.index[:number]),
        "missed": _by_area(rows, number, "false_neg"),
        "false_positives": _by_area(_of_empty_images(rows), number, "false_pos"),
        "median": list(ranked.index[middle : middle + number]),
        "best": list(ranked.index[::-1][:number]),
    }
    wanted = sorted({image_id for image_ids in selected.values() for image_id in image_ids})
    truths = results.manifest.set_index("image_id", drop=False).loc[wanted].to_dict("index")
    guesses = predictions.assign(ignore="").set_index("image_id", drop=False).loc[wanted].to_dict("index")
    scores = dict(iter(rows[rows["image_id"].isin(wanted)].groupby("image_id")))
    shown = {one: _shown(truths[one], guesses[one], scores[one], names) for one in wanted}  # each image is read once
    return {name: [shown[image_id] for image_id in image_ids] for name, image_ids in selected.items()}


def _by_area(rows: pd.DataFrame, number: int, error: str) -> list[str]:
    """Images with the most pixels of this error, counting only classes without a correct pixel."""
    wrong = rows[(rows["true_pos"] == 0) & (rows[error] > 0)].groupby("image_id")[error].sum()
    return list(wrong.sort_values(ascending=False, kind="stable").index[:number])


def _of_empty_images(rows: pd.DataFrame) -> pd.DataFrame:
    truth = (rows["true_pos"] + rows["false_neg"]).groupby(rows["image_id"]).transform("sum")
    return rows[truth == 0]


def _shown(truth: dict, guess: dict, scores: pd.DataFrame, names: list[str]) -> dict[str, str]:
    image = read_for_display(truth["path"])
    drawn = overlay_prediction(image, read_masks(truth, names) == 1, read_masks(guess, names) == 1, side=SIDE)
    both = np.concatenate([resized(image, drawn.shape[:2]), drawn], axis=1)
    mean = score(scores["dice"].mean(), 2)
    return {
        "source": jpeg_url(both, max_side=2 * SIDE),
        "image_id": truth["image_id"],
        "caption": f"mean Dice {mean}: {_scores_in_words(scores)}",
        "alt": f"{truth['image_id']}: image on the left, ground truth and prediction on the right; mean Dice {mean}",
    }


def _scores_in_words(scores: pd.DataFrame) -> str:
    """Dice of the classes in the ground truth or the prediction, lowest first."""
    known = scores.dropna(subset=["dice"]).sort_values("dice", kind="stable")
    said = [f"{row['class']} {row['dice']:.2f}" for row in known.head(MOST_SCORES).to_dict("records")]
    more = len(known) - MOST_SCORES
    return ", ".join(said) + (f" and {more} more" if more > 0 else "")
