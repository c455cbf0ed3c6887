import numpy as np
import pytest

from seg_pipeline.segmentation.data.geometry import (
    Box,
    crop_image,
    crop_truth,
    draw_window,
    input_shapes,
    resize_image,
    resize_truth,
)
from seg_pipeline.segmentation.data.sample_decoding import POINTS, class_points
from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.settings.training import InputSettings

NONE = np.empty(0, dtype=np.int32)


@pytest.mark.parametrize(
    ("settings", "native", "scaled", "filled"),
    [
        ({"resize_mode": "resize"}, (40, 48), (64, 96), (64, 96)),
        ({"resize_mode": "pad"}, (40, 48), (64, 77), (64, 96)),  # 64 / 40 = 1.6; 76.8
        ({"resize_mode": "pad"}, (100, 1000), (10, 96), (64, 96)),  # 9.6
        ({"resize_mode": "pad"}, (1000, 1), (64, 1), (64, 96)),
        ({"resize_mode": "crop"}, (40, 48), (40, 48), (64, 64)),
        ({"resize_mode": "crop"}, (64, 96), (64, 96), (64, 96)),
        ({"resize_mode": "crop", "scale": 0.5}, (360, 481), (180, 240), (192, 256)),
        ({"resize_mode": "crop", "scale": 0.1}, (3, 700), (1, 70), (32, 96)),
    ],
)
def test_shapes_by_hand(settings, native, scaled, filled):
    assert input_shapes(*native, InputSettings(size=(64, 96), **settings)) == (scaled, filled)


def test_images_shrink_by_area_averaging_and_grow_by_linear_interpolation():
    image = np.array([[0, 10], [20, 30], [100, 100], [100, 140]], dtype=np.uint8)[..., None]
    assert resize_image(image, (2, 1)).tolist() == [[[15]], [[110]]]
    assert resize_image(np.array([[0, 100]], dtype=np.uint8)[..., None], (1, 4))[0, :, 0].tolist() == [0, 25, 75, 100]
    assert resize_image(image, (4, 2)) is image


def test_resizing_keeps_the_values_of_a_truth():
    masks = np.zeros((1, 4, 6), dtype=np.uint8)
    masks[0, :2, :3], masks[0, 3, 5] = 1, IGNORE
    np.testing.assert_array_equal(resize_truth(masks, (2, 3))[0], [[1, 0, 0], [0, 0, IGNORE]])
    np.testing.assert_array_equal(resize_truth(masks[0], (2, 3)), [[1, 0, 0], [0, 0, IGNORE]])


def test_windows_inside_and_beyond_the_image_are_cut():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    assert crop_image(image, Box(0, 1, 2, 2))[..., 0].tolist() == [[1, 2], [4, 5]]
    assert crop_image(image, Box(-1, 2, 4, 2))[..., 0].tolist() == [[0, 0], [2, 0], [5, 0], [0, 0]]
    truth = image[..., 0]
    assert crop_truth(truth, Box(1, -1, 1, 5)).tolist() == [[IGNORE, 3, 4, 5, IGNORE]]
    assert crop_truth(truth[None], Box(1, 0, 2, 2)).tolist() == [[[3, 4], [IGNORE, IGNORE]]]


def test_a_cut_is_never_a_view():
    image = np.zeros((2, 3, 1), dtype=np.uint8)
    crop_image(image, Box(0, 0, 2, 3))[:] = 1
    assert not image.any()


def boxes(shape, points=NONE, number=400, **settings):
    rng = np.random.default_rng(0)
    given = InputSettings(size=(32, 64), resize_mode="crop", **settings)
    random_values = [rng.random(5).tolist() for _ in range(number)]
    return [draw_window(shape, given, points, one, foreground=given.foreground) for one in random_values]


def test_windows_are_spread_over_a_larger_image():
    found = boxes((35, 70), number=2000)
    assert {box.top for box in found} == set(range(4))
    assert {box.left for box in found} == set(range(7))
    assert np.bincount([box.top for box in found]).min() > 430  # of 500
    assert {box[2:] for box in found} == {(32, 64)}


def test_a_smaller_image_is_placed_anywhere_in_the_window():
    found = boxes((30, 60), number=2000)
    assert {box.top for box in found} == {-2, -1, 0}
    assert {box.left for box in found} == set(range(-4, 1))


def test_zoom_is_below_one_as_often_as_above():
    heights = np.array([box.height for box in boxes((500, 500), zoom=2.0, number=2000)])
    assert (heights.min(), heights.max()) == (16, 64)
    assert np.median(heights) == pytest.approx(32, abs=1)


@pytest.mark.parametrize("shape", [(200, 300), (20, 300)])
def test_foreground_windows_contain_a_point(shape):
    points = np.array([0, 7 * 300 + 150, 19 * 300 + 299])  # two corners and one within
    found = boxes(shape, points, number=900, foreground=1.0, zoom=1.4)
    held = [[box.top <= p // 300 < box.top + box.height and box.left <= p % 300 < box.left + box.width for p in points]
            for box in found]  # fmt: skip
    assert np.any(held, axis=1).all()
    assert np.sum(held, axis=0).min() > 250
    places = {150 - box.left for box, (_, middle, _) in zip(found, held, strict=True) if middle}
    assert len(places) > 50  # anywhere in the window's width


def test_the_share_of_foreground_windows():
    point = np.array([150 * 400 + 200])
    for share, windows in [(0.0, 0.053), (0.5, 0.53), (1.0, 1.0)]:
        # a window anywhere holds the point in 32 / 269 x 64 / 337 = 2 % of the cases
        found = boxes((300, 400), point, number=3000, foreground=share)
        held = [box.top <= 150 < box.top + 32 and box.left <= 200 < box.left + 64 for box in found]
        assert np.mean(held) == pytest.approx(windows, abs=0.04)


def test_without_points_foreground_windows_are_anywhere():
    assert boxes((35, 70), NONE, foreground=1.0) == boxes((35, 70))


def test_class_points_are_balanced_over_classes():
    labels = np.full((40, 30), IGNORE, dtype=np.uint8)
    labels[:30], labels[3, 4], labels[10:20, :20] = 0, 1, 2
    for truth, background in [(labels, True), (np.stack([labels == 1, labels == 2]).astype(np.uint8), False)]:
        points = class_points(truth, background)
        rows, columns = np.divmod(points, 30)
        shown = labels[rows, columns]
        assert np.bincount(shown, minlength=3).tolist() == [0, POINTS // 2, POINTS // 2]
        assert set(rows[shown == 2]) == set(range(10, 20))
        assert len(set(columns[shown == 2])) == 20
    assert np.bincount(labels.ravel()[class_points(labels, False)]).tolist() == [85, 85, 85]


def test_without_classes_there_are_no_class_points():
    assert class_points(np.zeros((4, 5), dtype=np.uint8), True).size == 0
    assert class_points(np.full((2, 4, 5), IGNORE, dtype=np.uint8), False).size == 0
