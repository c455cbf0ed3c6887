import numpy as np
import pytest

from seg_pipeline.segmentation.objects.gaps import gaps, seams, start_probabilities


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([[1, 1, 1, 1, 2, 2, 2, 2]], [[0, 0, 1, 1, 1, 1, 0, 0]]),  # touching
        ([[1, 1, 1, 0, 0, 2, 2, 2]], [[0, 0, 0, 1, 1, 0, 0, 0]]),  # near each other
        ([[1, 1, 0, 0, 0, 0, 2, 2]], [[0] * 8]),  # far apart
        ([[0, 7, 7, 7, 0, 0, 0, 0]], [[0] * 8]),  # alone
        ([[0] * 8], [[0] * 8]),
    ],
)
def test_gaps_of_a_strip_by_hand(labels, expected):
    assert gaps(np.array(labels, dtype=np.int32)).tolist() == np.array(expected, dtype=bool).tolist()


def test_gaps_reach_as_far_in_rows_as_in_columns():
    labels = np.ones((6, 3), dtype=np.int32)
    labels[3:] = 2
    assert gaps(labels, reach=1)[:, 0].tolist() == [False, False, True, True, False, False]


def test_an_object_starts_in_its_class_and_outside_of_gaps():
    probabilities = np.array([[[0.8, 0.8]], [[0.5, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]]], dtype=np.float32)
    np.testing.assert_allclose(start_probabilities(probabilities), [[[0.8, 0.0]], [[0.25, 0.0]]])


def test_seams_lie_between_objects_that_touch_with_a_side():
    labels = np.array([[1, 1, 2, 0], [1, 3, 0, 4]], dtype=np.int32)
    assert seams(labels).astype(int).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert not seams(np.zeros((2, 3), dtype=np.int32)).any()
