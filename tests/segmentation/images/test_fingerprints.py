import numpy as np
import pytest

from seg_pipeline.segmentation.images.fingerprints import (
    content_hash,
    count_objects,
    overlaps,
    parse_overlaps,
    thumbnail,
)


@pytest.fixture
def image():
    return np.random.default_rng(3).integers(0, 60_000, (50, 64), dtype=np.uint16)


def test_equal_pixels_of_another_shape_or_dtype_are_another_content(image):
    assert content_hash(image) == content_hash(image.copy(order="F"))
    assert len({content_hash(one) for one in (image, image.T.reshape(50, 64), image.astype(np.int64))}) == 3


def bits_apart(a, b):
    return (int(thumbnail(a), 16) ^ int(thumbnail(b), 16)).bit_count()


def test_a_thumbnail_survives_gain_and_size_but_not_a_flip(image):
    import cv2

    smooth = cv2.GaussianBlur(image, (15, 15), 4)
    assert bits_apart(smooth, smooth // 2 + 100) <= 2
    assert bits_apart(smooth, cv2.resize(smooth, (128, 100))) <= 12
    assert bits_apart(smooth, smooth[:, ::-1].copy()) > 80


def test_colour_and_blank_images_have_a_thumbnail():
    assert thumbnail(np.zeros((3, 5), dtype=np.uint8)) == "0" * 64
    colour = np.zeros((32, 34, 3), dtype=np.uint8)
    colour[:, 16:, 1] = 90  # one step, in one channel: a ramp of at most 3 of 16 comparisons in each row
    assert thumbnail(colour) == 16 * "0380"


def test_overlaps_of_each_pair_by_hand():
    masks = np.array([[[1, 1, 0], [0, 0, 0]], [[0, 1, 1], [0, 0, 0]], [[1, 1, 1], [0, 0, 1]]], dtype=bool)
    assert overlaps(dict(enumerate(masks))) == "0+1:1 0+2:2 1+2:2"
    assert parse_overlaps("0+1:1 10+12:37") == {(0, 1): 1, (10, 12): 37}
    assert overlaps({4: masks[0], 17: masks[2]}) == "4+17:2"
    assert overlaps({0: masks[0]}) == overlaps({}) == ""


def test_overlaps_of_many_classes():
    apart = np.eye(5, dtype=bool)[:, None]
    assert overlaps(dict(enumerate(apart))) == ""
    assert overlaps(dict(enumerate([*apart, apart[0] | apart[4]]))) == "0+5:1 4+5:1"


def test_no_overlaps_is_an_empty_text():
    assert parse_overlaps("") == {}


def test_objects_touch_at_corners():
    assert count_objects(np.array([[1, 0, 0, 1], [0, 1, 0, 1]], dtype=bool)) == 2
