import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from seg_pipeline.segmentation.prediction.postprocessing import (
    Postprocessing,
    argmax_masks,
    clean_masks,
    find_holes,
    keep_objects,
    make_masks,
)

MULTILABEL = {"task": "multilabel", "background": False}


def drawn(text):
    """Bool (H, W) of lines in which "#" is the class."""
    return np.array([[letter == "#" for letter in line] for line in text.split()])


RING = drawn("""
.......#
.###...#
.#.#....
..##.#..
........
""")  # the ring's corner is open to a diagonal only


def test_each_class_has_its_own_threshold():
    probabilities = np.array([[[0.5, 0.6, 0.7]], [[0.5, 0.6, 0.7]]], dtype=np.float32)
    masks = make_masks(probabilities, Postprocessing.none(2, 0.5).changed("thresholds", 1, 0.65), **MULTILABEL)
    assert masks.tolist() == [[[False, True, True]], [[False, False, True]]]


@pytest.mark.parametrize(
    ("background", "expected"), [(True, [[[0, 1]], [[0, 0]]]), (False, [[[1, 0]], [[0, 1]], [[0, 0]]])]
)
def test_multiclass_takes_the_most_probable_class(background, expected):
    probabilities = np.array([[[0.4, 0.2]], [[0.3, 0.7]], [[0.3, 0.1]]], dtype=np.float32)
    none = Postprocessing.none(3 - background, None)
    assert make_masks(probabilities, none, task="multiclass", background=background).tolist() == expected


def test_a_hole_is_enclosed_even_if_its_border_is_only_diagonal():
    assert np.argwhere(find_holes(RING, None)).tolist() == [[2, 2]]
    assert not find_holes(RING, np.zeros_like(RING)).any()


@pytest.mark.parametrize(
    ("min_area", "largest_only", "areas"), [(0, False, [7, 2, 1]), (2, False, [7, 2]), (3, False, [7]), (2, True, [7])]
)
def test_objects_are_kept_by_area(min_area, largest_only, areas):
    left = keep_objects(RING, min_area=min_area, largest_only=largest_only)
    labels, number = ndimage.label(left, np.ones((3, 3)))
    assert sorted(np.bincount(labels.ravel())[1:].tolist(), reverse=True) == areas
    assert number == len(areas)


def test_holes_are_filled_before_small_objects_are_removed():
    """A ring of 7 pixels and its hole make 8, which a minimum area of 8 keeps only if holes are filled first."""
    probabilities = np.where(RING, 0.75, 0.25).astype(np.float32)[None]
    bare = Postprocessing.none(1, 0.5)
    filled = bare.changed("min_area", 0, 8).changed("fill_holes", 0, True)
    assert make_masks(probabilities, filled, **MULTILABEL).sum() == 8
    assert not make_masks(probabilities, bare.changed("min_area", 0, 8), **MULTILABEL).any()


@pytest.mark.parametrize(("least", "kept"), [(0.75, True), (0.76, False)])
def test_min_peak_clears_images_without_a_confident_pixel(least, kept):
    probabilities = np.where(RING, 0.75, 0.25).astype(np.float32)[None]
    at_least = Postprocessing.none(1, 0.5).changed("min_peak", 0, least)
    assert make_masks(probabilities, at_least, **MULTILABEL).any() == kept


def test_a_hole_that_contains_another_class_is_not_filled():
    masks = np.stack([RING, find_holes(RING, None)])
    settings = Postprocessing.none(2, None).changed("fill_holes", 0, True)
    assert np.array_equal(clean_masks(masks, np.ones(2), settings, task="multiclass"), masks)
    assert clean_masks(masks, np.ones(2), settings, task="multilabel")[0].sum() == RING.sum() + 1


def test_an_empty_image_passes_through_every_step():
    every = Postprocessing((0.5,), (True,), (5,), (True,), (0.6,))
    assert not make_masks(np.zeros((1, 4, 7), dtype=np.float32), every, **MULTILABEL).any()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_holes_and_objects_match_scipy(seed):
    mask = np.random.default_rng(seed).random((9, 12)) > 0.45
    if not mask.any():
        return
    cross, square = ndimage.generate_binary_structure(2, 1), np.ones((3, 3))
    assert np.array_equal(mask | find_holes(mask, None), ndimage.binary_fill_holes(mask, cross))
    labels, _ = ndimage.label(mask, square)
    large = np.isin(labels, np.flatnonzero(np.bincount(labels.ravel()) >= 4)) & mask
    assert np.array_equal(keep_objects(mask, min_area=4, largest_only=False), large)


def test_settings_survive_a_json_round_trip():
    settings = Postprocessing((0.5, 0.4), (True, False), (0, 12), (False, True), (0.0, 0.7))
    assert Postprocessing.from_dict(settings.to_dict()) == settings
    assert settings.to_dict()["min_area"] == [0, 12]
    with pytest.raises(ValueError, match=r"has the settings .*'uncertainty'\], found \['steps'\]"):
        Postprocessing.from_dict({"steps": 1})
    with pytest.raises(ValueError, match=r"one value per class in each setting, found .*'min_area': 1"):
        Postprocessing((0.5, 0.4), (True, False), (0,), (False, True), (0.0, 0.7))


def test_a_mask_that_fills_the_image_has_no_hole():
    assert not find_holes(np.ones((3, 5), dtype=bool), None).any()
    assert (
        cv2.countNonZero(keep_objects(np.ones((3, 5), dtype=bool), min_area=15, largest_only=True).view(np.uint8)) == 15
    )


@pytest.mark.parametrize("background", [False, True])
def test_the_winner_is_the_first_of_the_largest(background):
    probabilities = np.random.default_rng(0).integers(0, 4, (5, 6, 9)).astype(np.float32)  # many are equal
    expected = probabilities.argmax(0) == np.arange(background, 5)[:, None, None]
    assert np.array_equal(argmax_masks(probabilities, background), expected)
