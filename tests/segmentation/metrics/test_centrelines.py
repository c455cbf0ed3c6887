"""clDice on drawn vessels, worked by hand. The centreline of a line one pixel wide is the line itself."""

import math

import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.metrics import centrelines
from seg_pipeline.segmentation.metrics.aggregation import Aggregator
from seg_pipeline.segmentation.metrics.split_scores import score_predictions
from seg_pipeline.segmentation.settings import training
from seg_pipeline.segmentation.settings.training import MeasureSettings, ScoreSettings

pytest.importorskip("skimage")

SHAPE = (9, 12)


def drawn(*spans):
    """Mask of rectangles (first row, last row, first column, last column)."""
    mask = np.zeros(SHAPE, dtype=bool)
    for top, bottom, left, right in spans:
        mask[top : bottom + 1, left : right + 1] = True
    return mask


LINE = drawn((2, 2, 1, 10))  # 10 pixels


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (LINE, LINE, 1),
        (drawn((2, 2, 1, 6)), LINE, 2 * 1 * 0.6 / 1.6),  # ends early
        (drawn((2, 2, 1, 4), (2, 2, 7, 10)), LINE, 2 * 1 * 0.8 / 1.8),  # interrupted
        (drawn((2, 2, 1, 6), (6, 6, 1, 3)), LINE, 2 * (6 / 9) * 0.6 / (6 / 9 + 0.6)),  # ends early, and a false one
        (drawn((1, 3, 1, 10)), LINE, 2 * (8 / 9) * 1 / (8 / 9 + 1)),  # too wide, Dice 0.5: 1 of 9 pixels turns aside
        (drawn((5, 5, 1, 10)), LINE, 0),  # elsewhere
        (drawn(), LINE, 0),
        (LINE, drawn(), 0),
    ],
)
def test_drawn_vessels(predicted, truth, expected):
    assert centrelines.cldice(predicted, truth) == pytest.approx(expected)


def test_nothing_drawn_and_nothing_found_has_no_score():
    assert math.isnan(centrelines.cldice(drawn(), drawn()))


def tables(masks, guesses, ignored):
    rows = pd.DataFrame(
        {
            "image_id": [f"i{number}" for number in range(len(masks))],
            "group": ["a", "a", "b"],
            "series": ["s", "s", "t"],
            "frame": [1, 2, 1],
            "split": "test",
            "height": SHAPE[0],
            "width": SHAPE[1],
            "ignore": [encode_rle(one, order="C") if one.any() else "" for one in ignored],
            "mask_vein": [encode_rle(one, order="C") for one in masks],
        }
    )
    return rows, rows[["image_id", "height", "width"]].assign(
        mask_vein=[encode_rle(one, order="C") for one in guesses], peak_vein=0.9
    )


@pytest.fixture
def split():
    """Ends early, of which the missing part is ignored in the second image; nothing in the third."""
    short = drawn((2, 2, 1, 6))
    return tables([LINE, LINE, drawn()], [short, short, drawn()], [drawn(), drawn((0, 8, 7, 11)), drawn()])


def test_images_and_intervals_of_a_split(split):
    measures = MeasureSettings(cldice=True, repeats=100)
    found = score_predictions(*split, scores=ScoreSettings(), measures=measures, seed=0)
    np.testing.assert_allclose(found.images["cldice"], [0.75, 1, math.nan])
    vein = found.scores["classes"]["vein"]
    assert (vein["cldice"], found.scores["mean_cldice"]) == (pytest.approx(0.875), pytest.approx(0.875))
    assert found.scores["by_aggregation"]["dataset"]["mean_cldice"] == pytest.approx(0.875)  # always over images


@pytest.mark.parametrize(("policy", "mean"), [("zero", 1.75 / 3), ("one", 2.75 / 3)])
def test_the_empty_policy_decides_on_empty_images(split, policy, mean):
    values = centrelines.score_split(*split, ["vein"])
    found = {"classes": {"vein": {}}}
    centrelines.add(found, values, split[0]["group"], Aggregator("image", policy, 50, 0), 0.95)
    assert found["mean_cldice"] == pytest.approx(mean)


def test_it_is_left_out_unless_asked_for(split):
    found = score_predictions(*split, scores=ScoreSettings(), measures=MeasureSettings(repeats=100), seed=0)
    assert "cldice" not in found.images
    assert "mean_cldice" not in found.scores


def test_without_scikit_image_the_setting_is_refused(monkeypatch):
    monkeypatch.setattr(training, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"`cldice: true` needs scikit-image: `pip install "):
        MeasureSettings(cldice=True)
