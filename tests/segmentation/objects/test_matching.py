import numpy as np
import pytest

from seg_pipeline.segmentation.objects.matching import count_matches, f1, matches, overlaps

TRUTH = np.array([[7, 7, 7, 7, 0], [9, 9, 9, 9, 0]])  # two touching objects of 4 pixels


@pytest.mark.parametrize(
    ("found", "iou", "counts"),
    [
        (TRUTH, [[1, 0], [0, 1]], [2, 0, 0]),  # touching objects stay apart
        (np.zeros_like(TRUTH), [[], []], [0, 0, 2]),  # nothing found
        ([[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]], [[0.5], [0.5]], [0, 1, 2]),  # merged: neither is found
        ([[1, 1, 2, 2, 0], [3, 3, 3, 3, 3]], [[0.5, 0.5, 0], [0, 0, 0.8]], [1, 2, 1]),  # split, and one pixel too many
        ([[5, 5, 5, 9, 0], [0, 0, 0, 9, 9]], [[0.75, 1 / 6], [0, 1 / 6]], [1, 1, 1]),
    ],
)
def test_overlaps_and_matches_by_hand(found, iou, counts):
    result = overlaps(TRUTH, np.array(found))
    assert result.true_ids.tolist() == [7, 9]
    np.testing.assert_allclose(result.iou, np.array(iou).reshape(2, -1))
    assert count_matches(result.iou, [0.5]).tolist() == [counts]


def test_an_empty_truth_has_false_positives_only():
    result = overlaps(np.zeros((2, 5), np.uint16), TRUTH)
    assert result.iou.shape == (0, 2)
    assert count_matches(result.iou, [0.5, 0.9]).tolist() == [[0, 2, 0], [0, 2, 0]]


def test_unknown_pixels_do_not_count():
    known = np.ones(TRUTH.shape, dtype=bool)
    known[1] = False
    result = overlaps(TRUTH, np.array([[0, 4, 4, 4, 4], [4, 4, 4, 4, 4]]), known=known)
    assert (result.true_ids.tolist(), result.found_ids.tolist()) == ([7], [4])
    assert result.iou.tolist() == [[3 / 5]]


def test_pairs_are_rows_and_columns():
    assert matches(np.array([[0.0, 0.6, 0.5], [0.9, 0.0, 0.0]])).tolist() == [[0, 1], [1, 0]]


def test_a_threshold_below_one_half_is_refused():
    with pytest.raises(ValueError, match=r"0\.4 lets an object match several; give \.5 or more"):
        matches(np.zeros((1, 1)), 0.4)


def test_f1_by_hand():
    np.testing.assert_allclose(f1([[2, 1, 1], [0, 0, 0], [0, 3, 0]]), [4 / 6, 1.0, 0.0])
