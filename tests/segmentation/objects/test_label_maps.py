import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from seg_pipeline.segmentation.objects.label_maps import (
    decode_labels,
    encode_labels,
    join_masks,
    numbered,
    resize_labels,
)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([[0, 1, 1, 2], [2, 0, 0, 3]], "2 2 1 4 2 2 8 1 3"),  # object 2 goes on in the next row
        ([[0, 0, 0], [0, 0, 0]], ""),
        ([[5, 5, 5], [5, 5, 5]], "1 6 5"),
    ],
)
def test_labels_as_text_by_hand(labels, text):
    labels = np.array(labels, dtype=np.int32)
    assert encode_labels(labels) == text
    np.testing.assert_array_equal(decode_labels(text, labels.shape), labels)


@given(
    arrays.arrays(
        np.int32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6), elements={"min_value": 0, "max_value": 3}
    )
)
def test_decoding_is_the_inverse(labels):
    np.testing.assert_array_equal(decode_labels(encode_labels(labels), labels.shape), labels)


def test_ids_of_any_size_are_numbered():
    assert numbered(np.array([[0, 70000], [9, 9]])).tolist() == [[0, 2], [1, 1]]
    assert numbered(np.array([[7, 7], [7, 8]])).tolist() == [[1, 1], [1, 2]]  # without background


def test_the_smaller_of_overlapping_objects_is_on_top():
    large = np.array([[1, 1, 1], [1, 1, 1]], dtype=bool)
    small = np.array([[0, 1, 0], [0, 0, 0]], dtype=bool)
    for masks in ([large, small], [small, large]):
        assert join_masks(masks, (2, 3)).tolist() == [[1, 2, 1], [1, 1, 1]]


def test_an_object_that_others_hide_gets_no_number():
    left, right = (np.array([[1, 1, 0, 0]], dtype=bool), np.array([[0, 0, 1, 1]], dtype=bool))
    assert join_masks([left | right, left, right], (1, 4)).tolist() == [[1, 1, 2, 2]]


def test_scaling_keeps_numbers():
    labels = np.array([[0, 70000], [3, 0]], dtype=np.int32)
    assert resize_labels(labels, (4, 2)).tolist() == [[0, 70000], [0, 70000], [3, 0], [3, 0]]
