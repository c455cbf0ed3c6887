import math

import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.metrics.aggregation import Aggregator
from seg_pipeline.segmentation.metrics.object_scores import ObjectCounts, count_objects, image_table, summary

NAN = math.nan


def labels(*rows):
    """Label map from rows of digits; "." is background."""
    return np.array([[0 if pixel == "." else int(pixel) for pixel in row] for row in rows])


ONE = labels("1111.", "1111.", ".....")
TOUCHING = labels("1122", "1122", "1122")


def found(predicted, truth, ignored=None, threshold=0.5):
    true_pos, false_pos, false_neg, iou = count_objects(predicted, truth, ignored)
    at = round(20 * threshold) - 10
    return (int(true_pos[at]), int(false_pos[at]), int(false_neg[at])), iou


@pytest.mark.parametrize(
    ("predicted", "truth", "counts", "iou"),
    [
        (ONE, ONE, (1, 0, 0), 1),
        (ONE * 9, ONE, (1, 0, 0), 1),  # numbers need not agree
        (np.zeros_like(ONE), ONE, (0, 0, 1), 0),  # missed
        (ONE, np.zeros_like(ONE), (0, 1, 0), 0),  # nothing there
        (np.zeros_like(ONE), np.zeros_like(ONE), (0, 0, 0), 0),
        (TOUCHING, TOUCHING, (2, 0, 0), 2),
        (TOUCHING > 0, TOUCHING, (0, 1, 2), 0),  # merged: IoU 6 / 12 with each, which is not above 0.5
        (TOUCHING, (TOUCHING > 0).astype(int), (0, 2, 1), 0),  # split in halves
        (labels("1112", "1112", "1112"), labels("1111", "1111", "1111"), (1, 1, 0), 9 / 12),  # split unevenly
        (labels("1112", "1112", "1112"), TOUCHING, (1, 1, 1), 6 / 9),  # border off: 6 / 9, and 3 / 6
    ],
)
def test_matches_by_hand(predicted, truth, counts, iou):
    assert found(np.asarray(predicted, dtype=int), truth) == (counts, pytest.approx(iou))


def test_a_pair_matches_up_to_its_iou():
    truth, predicted = labels("1111111111"), labels("1111111...")  # IoU 0.7
    assert [found(predicted, truth, threshold=level)[0][0] for level in (0.5, 0.65, 0.7, 0.75)] == [1, 1, 0, 0]
    assert found(predicted, truth, threshold=0.7)[0] == (0, 1, 1)


def test_ignored_pixels_belong_to_no_object():
    truth, predicted = labels("1100..", "1100.."), labels("111122", "111133")
    ignored = np.zeros(truth.shape, dtype=bool)
    ignored[:, 2:4] = True
    assert found(predicted, truth, ignored) == ((1, 2, 0), 1)  # 4 / 4 where it is 4 / 8 without
    ignored[0, 4:] = True  # the whole of 2
    assert found(predicted, truth, ignored) == ((1, 1, 0), 1)
    ignored[1, 4] = True  # half of 3: not more than half
    assert found(predicted, truth, ignored) == ((1, 1, 0), 1)


def test_an_object_that_is_mostly_ignored_still_matches():
    truth, predicted, ignored = labels("1...."), labels("11111"), np.array([[False, True, True, True, True]])
    assert found(predicted, truth, ignored) == ((1, 0, 0), 1)
    assert found(predicted, np.zeros_like(truth), ignored) == ((0, 0, 0), 0)


def of_images(*pairs, known=None):
    """Counts of one class."""
    parts = [count_objects(*pair) for pair in pairs]
    whole = [np.array([part[place] for part in parts])[:, None] for place in range(4)]
    return ObjectCounts(*whole, np.ones((len(pairs), 1), dtype=bool) if known is None else np.array(known)[:, None])


NONE = np.zeros_like(TOUCHING)
THREE = [(TOUCHING, TOUCHING), ((TOUCHING == 1).astype(int), TOUCHING), (NONE, NONE)]
"""Both found; one of two; nothing there and nothing found."""


def scored(counts, *, aggregation="image", empty_policy="skip", groups="abc"):
    aggregator = Aggregator(aggregation, empty_policy, 200, seed=0)
    return summary(counts, ["cell"], pd.Series(list(groups)), aggregator=aggregator, confidence=0.95)


@pytest.mark.parametrize(
    ("aggregation", "policy", "f1", "ap", "recall", "precision"),
    [
        ("image", "skip", (1 + 2 / 3) / 2, (1 + 1 / 2) / 2, (1 + 1 / 2) / 2, 1),
        ("image", "zero", (1 + 2 / 3) / 3, (1 + 1 / 2) / 3, (1 + 1 / 2) / 3, 2 / 3),
        ("image", "one", (2 + 2 / 3) / 3, (2 + 1 / 2) / 3, (2 + 1 / 2) / 3, 1),
        ("dataset", "skip", 6 / 7, 3 / 4, 3 / 4, 1),
    ],
)
def test_scores_by_hand(aggregation, policy, f1, ap, recall, precision):
    means, classes = scored(of_images(*THREE), aggregation=aggregation, empty_policy=policy)
    cell = classes["cell"]
    names = ("f1_50", "ap_50", "recall_50", "precision_50", "pq", "rq", "sq")
    expected = (f1, ap, recall, precision, f1, f1, 1 if policy != "zero" else 2 / 3)  # every match has IoU 1
    assert [cell[name] for name in names] == pytest.approx(expected)
    assert (cell["f1_50_95"], cell["ap_50_95"]) == pytest.approx((f1, ap))
    assert (cell["num_true"], cell["num_predicted"]) == (4, 3)
    assert means["mean_f1_50"] == pytest.approx(f1)
    assert list(cell["by_threshold"]) == [f"0.{level}" for level in range(50, 100, 5)]
    assert cell["by_threshold"]["0.95"]["f1"] == pytest.approx(f1)
    low, high = cell["f1_50_interval"]
    assert low <= f1 <= high


def test_means_over_thresholds_by_hand():
    counts = of_images((labels("1111111..."), labels("1111111111")))  # IoU 0.7: above 0.5, 0.55, 0.6 and 0.65
    cell = scored(counts, groups="a")[1]["cell"]
    assert (cell["f1_50_95"], cell["ap_50_95"], cell["f1_50_interval"]) == (0.4, 0.4, None)
    assert (cell["pq"], cell["sq"], cell["rq"]) == pytest.approx((0.7, 0.7, 1))


def test_panoptic_quality_by_hand():
    """A match of IoU 3/4 and one of 1, an object missed, one too many."""
    truth = labels("1111.22.33", "..........")
    predicted = labels("111..22...", "4444......")
    for aggregation in ("image", "dataset"):
        cell = scored(of_images((predicted, truth)), aggregation=aggregation, groups="a")[1]["cell"]
        assert (cell["pq"], cell["sq"], cell["rq"]) == pytest.approx((1.75 / 3, 1.75 / 2, 2 / 3))


@pytest.mark.parametrize("aggregation", ["image", "dataset"])
def test_errors_of_the_count_are_means_over_images(aggregation):
    pairs = [(TOUCHING, NONE), ((TOUCHING > 0).astype(int), TOUCHING), (NONE, NONE)]  # +2, -1, 0
    cell = scored(of_images(*pairs), aggregation=aggregation)[1]["cell"]
    assert (cell["count_error"], cell["count_bias"]) == pytest.approx((1, 1 / 3))
    unknown = of_images(*pairs[:1], (NONE, NONE), known=[True, False])  # the second is not annotated
    assert scored(unknown, groups="ab")[1]["cell"]["count_error"] == 2


def test_a_class_without_an_object_has_no_score():
    cell = scored(of_images((NONE, NONE)), groups="a")[1]["cell"]
    assert [cell[name] for name in ("f1_50", "ap_50_95", "pq", "sq")] == [None] * 4
    assert cell["count_error"] == 0


def test_the_table_of_images():
    table = image_table(of_images(*THREE))
    assert table["true_objects"].tolist() == [2, 2, 0]
    assert table["predicted_objects"].tolist() == [2, 1, 0]
    assert table["matched_objects"].tolist() == [2, 1, 0]
    np.testing.assert_allclose(table["object_f1"], [1, 2 / 3, NAN])
    np.testing.assert_allclose(table["object_ap"], [1, 1 / 2, NAN])
    np.testing.assert_allclose(table["panoptic_quality"], [1, 2 / 3, NAN])
