import numpy as np
import pytest

from seg_pipeline.segmentation.objects.splitting import drop_objects, split_mask, to_levels

STRIP = np.array([[1, 1, 1, 1, 1, 1, 1, 0]], dtype=bool)


@pytest.mark.parametrize(
    ("levels", "seed", "labels"),
    [
        ([[5, 9, 5, 2, 5, 9, 5, 0]], 8, [[1, 1, 1, 2, 2, 2, 2, 0]]),  # touching: parted at the valley
        ([[5, 9, 9, 9, 9, 9, 5, 0]], 8, [[1, 1, 1, 1, 1, 1, 1, 0]]),  # merged
        ([[5, 9, 5, 2, 5, 9, 5, 0]], 1, [[1, 1, 1, 1, 1, 1, 1, 0]]),  # a low seed level does not part them
        ([[9, 5, 5, 5, 2, 9, 9, 0]], 8, [[1, 1, 1, 1, 2, 2, 2, 0]]),  # the valley is nearer to the right one
        ([[0, 0, 0, 0, 0, 0, 0, 9]], 8, [[1, 1, 1, 1, 1, 1, 1, 0]]),  # no seed within the mask: one object
    ],
)
def test_a_strip_by_hand(levels, seed, labels):
    assert split_mask(STRIP, np.array(levels, dtype=np.uint8), seed).tolist() == labels


def test_what_no_seed_reaches_is_an_object_of_its_own():
    mask = np.array([[1, 1, 0, 1, 0, 1], [1, 1, 0, 0, 1, 0]], dtype=bool)
    levels = np.array([[9, 3, 0, 4, 0, 0], [3, 3, 0, 0, 0, 0]], dtype=np.uint8)
    assert split_mask(mask, levels, 8).tolist() == [[1, 1, 0, 2, 0, 2], [1, 1, 0, 0, 2, 0]]


def test_nothing_predicted_gives_no_object():
    empty = np.zeros((3, 5), dtype=bool)
    assert not split_mask(empty, np.full((3, 5), 9, dtype=np.uint8), 8).any()
    assert not drop_objects(np.zeros((3, 5), dtype=np.int32), np.ones((3, 5)), min_area=4, min_mean=0.5).any()


@pytest.mark.parametrize(
    ("min_area", "min_mean", "left"),
    [
        (0, 0.0, [[1, 2, 2, 2], [0, 3, 3, 0]]),
        (2, 0.0, [[0, 1, 1, 1], [0, 2, 2, 0]]),
        (0, 0.6, [[1, 0, 0, 0], [0, 2, 2, 0]]),  # means 0.9, 0.5 and 0.6
        (2, 0.6, [[0, 0, 0, 0], [0, 1, 1, 0]]),
    ],
)
def test_small_and_doubtful_objects_are_left_out_and_the_others_numbered_anew(min_area, min_mean, left):
    labels = np.array([[1, 2, 2, 2], [0, 3, 3, 0]], dtype=np.int32)
    values = np.array([[0.9, 0.9, 0.5, 0.1], [1.0, 0.5, 0.7, 0.9]])
    assert drop_objects(labels, values, min_area=min_area, min_mean=min_mean).tolist() == left
    if not min_mean:  # then values are not needed, and not computed while postprocessing is chosen
        assert drop_objects(labels, None, min_area=min_area, min_mean=0.0).tolist() == left


def test_levels_count_the_thresholds_exceeded():
    found = to_levels(np.array([[0.1, 0.5, 0.51, 1.0]], dtype=np.float32), (0.25, 0.5, 0.75))
    assert found.tolist() == [[0, 1, 2, 3]]
