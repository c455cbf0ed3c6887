"""Galleries of test images: best, worst, missed objects and false positives."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.decoding import read_for_display
from seg_pipeline.segmentation.manifest.table import read_masks
from seg_pipeline.segmentation.plotting.overlays import overlay_prediction, resized
from seg_pipeline.segmentation.report.page import jpeg_url
from seg_pipeline.segmentation.report.results import score

SIDE = 300
"""Longer side in pixels of each half: the image, and the image with its masks."""
MOST_SCORES = 6
"""Classes whose Dice is written below an image."""


@dataclass(frozen=True)
class Gallery:
    title: str
    meaning: str
    images: list[str]
    """Image ids, in the order shown."""
    pictures: list[dict[str, str]] = field(default_factory=list)
    """One per image: source (data URL), image_id, caption, alt (text for screen readers)."""


def select_galleries(image_scores: pd.DataFrame, number: int) -> list[Gallery]:
    """Select at most ``number`` images per gallery; a gallery may be empty, and an image may be in several.

    ``image_scores`` has one row per image and class: image_id, class, dice, true_pos, false_pos, false_neg.
    """
    ranked = image_scores.groupby("image_id")["dice"].mean().dropna().sort_values(kind="stable")
    middle = max(0, len(ranked) // 2 - number // 2)
    return [
        Gallery("Worst", "Images with the lowest mean Dice, lowest first.", list(ranked.index[:number])),
        Gallery(
            "Missed",
            "A class is present and none of its pixels was predicted; largest first.",
            _by_area(image_scores, number, "false_neg"),
        ),
        Gallery(
            "False positives",
            "The ground truth is empty and the prediction is not; largest first.",
            _by_area(_of_empty_images(image_scores), number, "false_pos"),
        ),
        Gallery(
            "Median",
            "Images from the middle of the ranking by mean Dice.",
            list(ranked.index[middle : middle + number]),
        ),
        Gallery("Best", "Images with the highest mean Dice, highest first.", list(ranked.index[::-1][:number])),
    ]


def _by_area(rows: pd.DataFrame, number: int, error: str) -> list[str]:
    """Images with the most pixels of this error, counting only classes without a correct pixel."""
    wrong = rows[(rows["true_pos"] == 0) & (rows[error] > 0)].groupby("image_id")[error].sum()
    return list(wrong.sort_values(ascending=False, kind="stable").index[:number])


def _of_empty_images(rows: pd.DataFrame) -> pd.DataFrame:
    truth = (rows["true_pos"] + rows["false_neg"]).groupby(rows["image_id"]).transform("sum")
    return rows[truth == 0]


def add_images(
    selected: list[Gallery],
    manifest: pd.DataFrame,
    predictions: pd.DataFrame,
    image_scores: pd.DataFrame,
    names: list[str],
) -> list[Gallery]:
    """The galleries with their images drawn; each image is read once."""
    wanted = sorted({image_id for gallery in selected for image_id in gallery.images})
    truths = manifest.set_index("image_id", drop=False).loc[wanted].to_dict("index")
    guesses = predictions.assign(ignore="").set_index("image_id", drop=False).loc[wanted].to_dict("index")
    scores = dict(iter(image_scores[image_scores["image_id"].isin(wanted)].groupby("image_id")))
    shown = {one: _shown(truths[one], guesses[one], scores[one], names) for one in wanted}
    return [replace(one, pictures=[shown[image_id] for image_id in one.images]) for one in selected]


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
