import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED
from seg_pipeline.segmentation.metrics.agreement import bland_altman, compare_readers, kappa
from seg_pipeline.segmentation.settings.training import MeasureSettings, ScoreSettings

H, W = 10, 12


def box(top, left, height, width):
    mask = np.zeros((H, W), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return encode_rle(mask, order="C")


FIRST = {"a": box(1, 1, 4, 5), "b": box(2, 2, 4, 4), "c": ""}
SECOND = {"c": "", "b": box(2, 2, 4, 6), "a": box(1, 1, 4, 5), "d": box(0, 0, 1, 1)}  # another order, an image more


def reader(masks, **columns):
    return pd.DataFrame(
        {
            "image_id": list(masks),
            "group": list(masks),
            "series": list(masks),
            "frame": 0,
            "height": H,
            "width": W,
            "split": ["test" if image_id == "b" else "train" for image_id in masks],
            "ignore": "",
            "content_hash": [f"pixels of {image_id}" for image_id in masks],
            "mask_lesion": list(masks.values()),
            **columns,
        }
    )


def compared(first, second):
    return compare_readers(first, second, scores=ScoreSettings(), measures=MeasureSettings(tolerance=0.5), seed=0)


def test_agreement_by_hand():
    """Equal in a, 16 pixels inside 24 in b, both empty in c; d is the second reader's alone."""
    scores, images = compared(reader(FIRST), reader(SECOND, mask_other=""))
    lesion = scores["classes"]["lesion"]
    assert (lesion["dice"], lesion["iou"]) == pytest.approx(((1 + 32 / 40) / 2, (1 + 16 / 24) / 2))
    assert lesion["hd95"] == pytest.approx((0 + 2) / 2)
    pixels = 3 * H * W
    observed, chance = (pixels - 8) / pixels, (36 * 44 + (pixels - 36) * (pixels - 44)) / pixels**2
    assert lesion["kappa"] == pytest.approx((observed - chance) / (1 - chance))
    assert scores["mean_kappa"] == pytest.approx(lesion["kappa"])
    assert lesion["kappa_interval"][0] <= lesion["kappa"] <= lesion["kappa_interval"][1]
    deviation = math.sqrt(32)  # of 0 and 8
    assert lesion["area_difference"] == {
        "num_images": 2,
        "mean": 4,
        "deviation": pytest.approx(deviation),
        "limits": pytest.approx([4 - 1.96 * deviation, 4 + 1.96 * deviation]),
    }
    assert (scores["num_images"], scores["area_unit"]) == (3, "pixels")
    assert {split: one["mean_dice"] for split, one in scores["by_split"].items()} == pytest.approx(
        {"train": 1, "test": 0.8}
    )
    assert scores["only_first"] == {"classes": [], "num_images": 0}
    assert scores["only_second"] == {"classes": ["other"], "num_images": 1}
    assert images["first_area"].tolist() == [20, 16, 0]
    assert images["second_area"].tolist() == [20, 24, 0]


def test_areas_are_in_square_millimetres_if_the_spacing_is_known():
    scores, images = compared(reader(FIRST, spacing_y=2.0, spacing_x=1.5), reader(SECOND))
    assert scores["area_unit"] == "mm²"
    assert images["second_area"].tolist() == [60, 72, 0]


def test_what_either_reader_ignores_counts_nowhere():
    ignoring = reader(SECOND, ignore=["", box(2, 6, 4, 2), "", ""])  # the pixels that the second reader has more of b
    scores, _ = compared(reader(FIRST, ignore=[box(9, 0, 1, 2), box(9, 0, 1, 2), ""]), ignoring)
    assert scores["classes"]["lesion"]["dice"] == 1
    assert scores["classes"]["lesion"]["kappa"] == 1


def test_a_class_that_one_reader_did_not_annotate_counts_nowhere():
    unknown = {**SECOND, "b": NOT_ANNOTATED}
    scores, images = compared(reader(FIRST), reader(unknown))
    assert scores["classes"]["lesion"]["dice"] == 1
    assert images["first_area"].tolist() == [20, 0, 0]
    assert scores["classes"]["lesion"]["kappa"] == 1
    assert scores["classes"]["lesion"]["area_difference"]["limits"] is None


@pytest.mark.parametrize("counts", [(5, 2, 3, 40), (0, 4, 0, 9), (1, 0, 0, 2)])
def test_kappa_is_scikit_learns(counts):
    true_pos, false_pos, false_neg, pixels = counts
    truth = [1] * true_pos + [0] * false_pos + [1] * false_neg + [0] * (pixels - true_pos - false_pos - false_neg)
    guess = [1] * true_pos + [1] * false_pos + [0] * false_neg + [0] * (pixels - true_pos - false_pos - false_neg)
    assert kappa(*np.array(counts, dtype=float)) == pytest.approx(cohen_kappa_score(truth, guess))


def test_kappa_of_a_class_that_nobody_drew_is_undefined():
    assert np.isnan(kappa(*np.array([[0.0], [0.0], [0.0], [12.0]])))


def test_areas_of_nobody_have_no_limits():
    rows = pd.DataFrame({"first_area": [0.0, 0.0], "second_area": [0.0, 0.0]})
    assert bland_altman(rows) == {"num_images": 0, "mean": None, "deviation": None, "limits": None}


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (reader(SECOND).rename(columns={"mask_lesion": "mask_tumour"}), "no class in common: the first has .'lesion'"),
        (reader({"x": ""}), "no image in common: the ids are like 'a' and 'x'"),
        (reader(SECOND, content_hash="other"), r"3 of 3 images have the same id but different pixels \(a, b, c\)"),
    ],
)
def test_readers_that_cannot_be_compared(second, text):
    with pytest.raises(ValueError, match=text):
        compared(reader(FIRST), second)
