import numpy as np
import pytest

from seg_pipeline.segmentation.objects.matching import count_splits, overlaps

TRUTH = np.array([[7, 7, 7, 7, 0], [9, 9, 9, 9, 0]])  # two touching objects of 4 pixels


@pytest.mark.parametrize(
    ("found", "iou"),
    [
        (TRUTH, [[1, 0], [0, 1]]),  # touching objects stay apart
        (np.zeros_like(TRUTH), [[], []]),  # nothing found
        ([[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]], [[0.5], [0.5]]),  # merged
        ([[1, 1, 2, 2, 0], [3, 3, 3, 3, 3]], [[0.5, 0.5, 0], [0, 0, 0.8]]),  # split, and one pixel too many
        ([[5, 5, 5, 9, 0], [0, 0, 0, 9, 9]], [[0.75, 1 / 6], [0, 1 / 6]]),
    ],
)
def test_overlaps_by_hand(found, iou):
    result = overlaps(TRUTH, np.array(found))
    assert result.true_ids.tolist() == [7, 9]
    np.testing.assert_allclose(result.iou, np.array(iou).reshape(2, -1))


def test_an_empty_truth_overlaps_nothing():
    result = overlaps(np.zeros((2, 5), np.uint16), TRUTH)
    assert result.iou.shape == (0, 2)


def test_unknown_pixels_do_not_count():
    known = np.ones(TRUTH.shape, dtype=bool)
    known[1] = False
    result = overlaps(TRUTH, np.array([[0, 4, 4, 4, 4], [4, 4, 4, 4, 4]]), known=known)
    assert (result.true_ids.tolist(), result.predicted_ids.tolist()) == ([7], [4])
    assert result.iou.tolist() == [[3 / 5]]


PAIR = [1, 1, 1, 1, 2, 2, 2, 2]
ONE = [1] * 8
VALLEY = [9, 9, 9, 3, 3, 9, 9, 9]
LOW, HIGH = 2, 8  # seeds below and above the valley


@pytest.mark.parametrize(
    ("truth", "levels", "mask", "low", "high"),
    [
        pytest.param(PAIR, VALLEY, ONE, [0, 10, 20], [20, 0, 0], id="touching: a low seed joins them"),
        pytest.param(ONE, VALLEY, ONE, [10, 0, 0], [0, 20, 10], id="split: a high seed cuts one object in two"),
        pytest.param(PAIR, [9] * 8, ONE, [0, 10, 20], [0, 10, 20], id="merged: no valley, no seed helps"),
        pytest.param([0] * 8, VALLEY, ONE, [0, 10, 0], [0, 20, 0], id="empty truth"),
        pytest.param(PAIR, VALLEY, [0] * 8, [0, 0, 20], [0, 0, 20], id="empty prediction"),
        pytest.param([0] * 8, [0] * 8, [0] * 8, [0, 0, 0], [0, 0, 0], id="both empty"),
    ],
)
def test_each_way_to_split_counts_its_matches_at_ten_thresholds(truth, levels, mask, low, high):
    pictures = [np.array([one]) for one in (mask, levels, truth)]
    counts = count_splits(
        pictures[0] > 0,
        pictures[1].astype(np.uint8),
        np.ones((1, 8)),
        pictures[2],
        np.ones((1, 8), bool),
        seeds=[LOW, HIGH],
        means=[0],
        areas=[0],
    )
    assert counts.tolist() == [[[low]], [[high]]]


def test_ways_to_split_leave_out_small_objects_and_unknown_pixels():
    mask, levels, truth = np.ones((1, 8), bool), np.array([VALLEY], np.uint8), np.array([PAIR])
    ways = {"seeds": [LOW, HIGH], "means": [0], "areas": [4, 5]}
    everywhere = count_splits(mask, levels, mask, truth, np.ones((1, 8), bool), **ways)
    assert everywhere.tolist() == [[[[0, 10, 20], [0, 10, 20]]], [[[20, 0, 0], [0, 0, 20]]]]  # halves of 4 pixels
    left = np.arange(8)[None] < 4
    assert count_splits(mask, levels, mask, truth, left, **ways)[0].tolist() == [[[10, 0, 0], [10, 0, 0]]]


def test_ways_to_split_leave_out_doubtful_objects():
    mask, levels, truth = np.ones((1, 8), bool), np.array([VALLEY], np.uint8), np.array([[1, 1, 1, 1, 0, 0, 0, 0]])
    values = np.array([[0.9, 0.9, 0.9, 0.7, 0.7, 0.7, 0.7, 0.7]])  # means of the halves 0.85 and 0.7, of both 0.775
    ways = {"seeds": [LOW, HIGH], "means": [0, 0.8, 0.9], "areas": [0, 4]}
    counts = count_splits(mask, levels, values, truth, np.ones((1, 8), bool), **ways)
    assert counts[:, :, 0].tolist() == counts[:, :, 1].tolist()
    # joined, the object has an IoU of .5, which is no match, and is left out from 0.8 on
    assert counts[0, :, 0].tolist() == [[0, 10, 10], [0, 0, 10], [0, 0, 10]]
    assert counts[1, :, 0].tolist() == [[10, 10, 0], [10, 0, 0], [0, 0, 10]]
