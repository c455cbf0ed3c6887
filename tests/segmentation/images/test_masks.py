import numpy as np
import pytest

from seg_pipeline.segmentation.images.masks import (
    MaskError,
    binary_mask,
    decode_rle,
    encode_rle,
    indexed_masks,
    pack_colours,
    pixel_value,
    read_rle,
    to_nearest,
)

MASK = np.array([[0, 1, 0], [0, 0, 1]], dtype=bool)  # 2 by 3: a swapped H and W fails


@pytest.mark.parametrize(("order", "rle"), [("C", "2 1 6 1"), ("F", "3 1 6 1")])
def test_rle_by_hand(order, rle):
    assert encode_rle(MASK, order=order) == rle
    np.testing.assert_array_equal(decode_rle(rle, MASK.shape, order=order), MASK)


def test_starts_may_count_from_zero():
    np.testing.assert_array_equal(decode_rle("1 1 5 1", MASK.shape, order="C", first=0), MASK)


def test_the_order_changes_the_mask():
    assert (decode_rle("2 1 6 1", MASK.shape, order="F") != MASK).any()


@pytest.mark.parametrize("filled", [False, True])
def test_an_empty_and_a_full_mask(filled):
    mask = np.full((3, 5), filled)
    rle = encode_rle(mask, order="F")
    assert rle == ("1 15" if filled else "")
    np.testing.assert_array_equal(decode_rle(rle, (3, 5), order="F"), mask)


def test_runs_that_touch_are_one_mask():
    np.testing.assert_array_equal(decode_rle("1 2 3 1", (1, 4), order="C"), [[True, True, True, False]])


@pytest.mark.parametrize("order", ["C", "F"])
def test_round_trip(order):
    mask = np.random.default_rng(0).random((37, 53)) > 0.7
    np.testing.assert_array_equal(decode_rle(encode_rle(mask, order=order), mask.shape, order=order), mask)


@pytest.mark.parametrize(
    ("rle", "text"),
    [
        ("5 3", "cover pixels 5 to 7, but an image of height 2 and width 3 has pixels 1 to 6"),
        ("0 2", "cover pixels 0 to 1, but an image of height 2 and width 3 has pixels 1 to 6"),
        ("1 2 3", "must come in pairs, found 3 numbers"),
        ("1 two", "must be whole numbers, found '1 two'"),
        ("1 1.5", "must be whole numbers, found '1 1.5'"),
        ("1 99999999999999999999", "cover pixels 1 to 9223372036854775807, but an image"),
        ("9223372036854775807 9223372036854775807", "cover pixels 9223372036854775807 to 18446744073709551613"),
        ("1 0", "must be at least 1 pixel long"),
        ("3 2 1 1", "overlap or are unsorted at run 2, which starts at 1"),
        ("1 3 2 1", "overlap or are unsorted at run 2, which starts at 2"),
    ],
)
def test_bad_run_lengths_say_what_is_wrong(rle, text):
    with pytest.raises(ValueError, match=text):
        decode_rle(rle, (2, 3), order="C")


@pytest.mark.parametrize(
    ("rle", "rule"),
    [
        ("1 2 3", "rle_malformed"),
        ("1 two", "rle_malformed"),
        ("1 0", "rle_malformed"),
        ("5 3", "rle_out_of_bounds"),
        ("3 2 1 1", "rle_unsorted"),
        ("1 3 2 1", "rle_unsorted"),
    ],
)
def test_bad_run_lengths_name_the_finding_that_they_become(rle, rule):
    with pytest.raises(MaskError) as error:
        decode_rle(rle, (2, 3), order="C")
    assert error.value.rule == rule


def test_a_binary_mask_that_is_read_as_class_ids_is_told():
    with pytest.raises(MaskError, match=r"values 0, 255 only, like a binary mask.*mask_format: files") as error:
        indexed_masks(np.array([[0, 255]], dtype=np.uint8), [1, 2], background_values=[0], ignore_values=[])
    assert error.value.rule == "binary_mask_as_ids"


@pytest.mark.parametrize("runs", ["1 2\t4 1", " 1 2  4 1 ", "+1 2 4 1"])
def test_spaces_and_signs_are_read_as_python_reads_them(runs):
    assert encode_rle(decode_rle(runs, (2, 3), order="C"), order="C") == "1 2 4 1"


@pytest.mark.parametrize(
    ("rle", "order", "first", "kept"),
    [
        ("1 2 4 1", "C", 1, True),
        ("1 6", "C", 1, True),
        ("", "C", 1, True),
        ("1 2 3 2", "C", 1, False),  # one run in two pieces
        ("1 2 4 1", "F", 1, False),
        ("1 2 4 1", "C", 0, False),
        ("01 2 4 1", "C", 1, False),
        ("1 2  4 1", "C", 1, False),
        ("+1 2 4 1", "C", 1, False),
        ("1 2 4 1 ", "C", 1, False),
    ],
)
def test_run_lengths_are_kept_if_encoding_them_again_gives_the_same(rle, order, first, kept):
    read = read_rle(rle, (2, 3), order=order, first=first)
    np.testing.assert_array_equal(read.mask, decode_rle(rle, (2, 3), order=order, first=first))
    assert read.area == read.mask.sum()
    assert read.rle == (rle if kept else None)
    assert (encode_rle(read.mask, order="C") == rle) is kept


@pytest.mark.parametrize("mask", [[[0, 0, 0]], [[1, 1, 1]], [[1, 0, 1]], [[0, 1, 0]], [[1]], [[]]])
def test_runs_that_touch_the_ends_go_there_and_back(mask):
    mask = np.array(mask, dtype=bool)
    np.testing.assert_array_equal(decode_rle(encode_rle(mask, order="F"), mask.shape, order="F"), mask)


def test_the_first_pixel_is_named_as_the_table_counts():
    with pytest.raises(ValueError, match=r"pixels 6 to 6, but .* has pixels 0 to 5"):
        decode_rle("6 1", (2, 3), order="C", first=0)


@pytest.mark.parametrize("value", [1, 255])
def test_whatever_value_marks_a_binary_mask(value):
    np.testing.assert_array_equal(binary_mask(MASK.astype(np.uint8) * value), MASK)


def test_a_binary_mask_of_several_values_is_refused():
    with pytest.raises(ValueError, match="holds the values 7, 255 besides 0, but a binary mask has only one"):
        binary_mask(np.array([[0, 7], [255, 0]], dtype=np.uint8))


def test_indexed_masks_by_hand():
    values = np.array([[3, 0, 11], [5, 5, 3]], dtype=np.uint8)
    masks, ignore = indexed_masks(values, [5, 7, 3], background_values=[0], ignore_values=[11])
    assert {number: mask.astype(int).tolist() for number, mask in masks.items()} == {
        0: [[0, 0, 0], [1, 1, 0]],
        2: [[1, 0, 0], [0, 0, 1]],
    }
    np.testing.assert_array_equal(ignore, [[0, 0, 1], [0, 0, 0]])


def test_an_undeclared_value_is_refused():
    text = r"holds the values 2, but the classes have \[1\]; declare them as classes or list them"
    with pytest.raises(ValueError, match=text):
        indexed_masks(np.array([[0, 1, 2]], dtype=np.uint8), [1], background_values=[0], ignore_values=[])


def test_colours_are_classes_by_hand():
    image = np.array([[[0, 0, 0], [128, 0, 255]], [[1, 2, 3], [128, 0, 255]]], dtype=np.uint8)
    packed = pack_colours(image)
    assert packed.tolist() == [[0, 0x8000FF], [0x010203, 0x8000FF]]
    values = [pixel_value("#8000ff")]
    masks, ignore = indexed_masks(
        packed, values, background_values=[0], ignore_values=[pixel_value("#010203")], colours=True
    )
    assert masks[0].tolist() == [[False, True], [False, True]]
    assert ignore.tolist() == [[False, False], [True, False]]


def test_grey_values_are_colours_too():
    assert pack_colours(np.array([[0, 255]], dtype=np.uint8)).tolist() == [[0, 0xFFFFFF]]


def test_an_undeclared_colour_is_called_by_its_name():
    text = r"holds the colours #000001, #0a0b0c, but the classes have \['#8000ff'\]; declare them"
    with pytest.raises(ValueError, match=text):
        indexed_masks(np.array([[1, 0x0A0B0C, 0]]), [0x8000FF], background_values=[0], ignore_values=[], colours=True)


def test_values_that_compression_changed_become_the_nearest_declared_ones():
    grey = np.array([[0, 3, 250], [131, 120, 255]], dtype=np.uint8)
    assert to_nearest(grey, [255, 0, 128], colours=False).tolist() == [[0, 0, 255], [128, 128, 255]]
    colours = pack_colours(np.array([[[250, 6, 3], [2, 240, 9], [120, 9, 9]]], dtype=np.uint8))
    assert to_nearest(colours, [0xFF0000, 0x00FF00], colours=True).tolist() == [[0xFF0000, 0x00FF00, 0xFF0000]]
