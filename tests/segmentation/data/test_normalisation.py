import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.data.geometry import resize_image
from seg_pipeline.segmentation.data.normalisation import MAX_MEASURED, mean_std, stored_pixels, training_statistics
from seg_pipeline.segmentation.settings.training import InputSettings

IMAGENET = ((0.4, 0.5, 0.9), (0.1, 0.2, 0.3))
VALUES = np.array([[0, 100, 180, 300, 400]], dtype=np.uint16)


def stored(values, normalisation, **settings):
    return stored_pixels(values, InputSettings(channels="grey", normalisation=normalisation, **settings))[..., 0]


def test_encoder_keeps_8_bits_and_shifts_16():
    assert stored(np.array([[7, 200]], dtype=np.uint8), "encoder").tolist() == [[7, 200]]
    assert stored(np.array([[255, 256, 65535]], dtype=np.uint16), "encoder").tolist() == [[0, 1, 255]]


def test_percentiles_of_the_image_become_black_and_white():
    # 100 and 300
    assert stored(VALUES, "percentile", window=(25.0, 75.0)).tolist() == [[0, 0, 102, 255, 255]]
    ramp = np.arange(1001, dtype=np.uint16)[None]
    found = stored(ramp, "percentile")  # 10 and 990
    assert [found[0, 10], found[0, 500], found[0, 989], found[0, 990]] == [0, 128, 255, 255]


def test_stored_values_become_black_and_white():
    assert stored(VALUES, "fixed", window=(50.0, 305.0)).tolist() == [[0, 50, 130, 250, 255]]
    below = stored(VALUES, "fixed", window=(-100.0, 155.0))
    assert below.tolist() == [[100, 200, 255, 255, 255]]


def test_an_image_gets_zero_mean_and_unit_deviation():
    values = np.random.default_rng(0).normal(900, 50, (70, 90)).round().astype(np.uint16)
    settings = InputSettings(channels="grey", normalisation="image")
    (mean,), (deviation,) = mean_std(settings, IMAGENET)
    network = (stored_pixels(values, settings) / 255 - mean) / deviation
    assert network.mean() == pytest.approx(0, abs=0.01)
    assert network.std() == pytest.approx(1, abs=0.01)
    twice = stored_pixels(values * 2, settings)
    np.testing.assert_allclose(twice, stored_pixels(values, settings), atol=1)


@pytest.mark.parametrize(("normalisation", "grey"), [("image", 128), ("percentile", 0), ("encoder", 2)])
def test_a_blank_image(normalisation, grey):
    assert (stored(np.full((2, 3), 700, dtype=np.uint16), normalisation) == grey).all()


def test_channels():
    colour = np.zeros((2, 3, 3), dtype=np.uint8)
    colour[..., 0], colour[..., 1], colour[..., 2] = 10, 200, 50
    np.testing.assert_array_equal(stored_pixels(colour, InputSettings()), colour)
    grey = stored_pixels(colour, InputSettings(channels=(0, 1)))
    assert (grey.shape, grey[0, 0, 0]) == ((2, 3, 1), 126)  # 0.299 x 10 + 0.587 x 200 + 0.114 x 50
    assert stored_pixels(colour[..., 1], InputSettings())[1, 2].tolist() == [200, 200, 200]


@pytest.mark.parametrize("normalisation", ["encoder", "percentile", "fixed"])
def test_the_network_takes_the_encoders_mean_and_deviation(normalisation):
    window = (0.0, 9.0) if normalisation == "fixed" else None
    settings = {"normalisation": normalisation, "window": window}
    assert mean_std(InputSettings(**settings), IMAGENET) == IMAGENET
    for channels, count in [("grey", 1), ((-1, 0), 2)]:
        mean, deviation = mean_std(InputSettings(channels=channels, **settings), IMAGENET)
        assert mean == pytest.approx((0.6,) * count)
        assert deviation == pytest.approx((0.2,) * count)


def write(folder, images):
    paths = [str(folder / f"{number}.png") for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(path, image)
    return pd.DataFrame({"path": paths})


def test_training_statistics_by_hand(tmp_path):
    """Two images of 2 x 3 pixels with values 0, 100, ... 1100."""
    rows = write(tmp_path, np.arange(12, dtype=np.uint16).reshape(2, 2, 3) * 100)
    settings = InputSettings(channels=(-1, 0), normalisation="training", window=(25.0, 75.0))
    found = training_statistics(rows, settings)
    # the 3rd and the 9th of 12 values; in 0..1: three 0, 1/6 ... 5/6 (as bytes), four 1
    assert found[0] == (200.0, 800.0)
    inner = np.array([42, 85, 128, 170, 212]) / 255  # 42.5, 127.5 and 212.5 round to the even one
    values = np.concatenate([np.zeros(3), inner, np.ones(4)])
    assert found[1] == pytest.approx((values.mean(),) * 2)
    assert found[2] == pytest.approx((values.std(),) * 2)
    measured = InputSettings(channels=(-1, 0), normalisation="training", statistics=found)
    assert mean_std(measured, IMAGENET) == found[1:]
    grey = stored_pixels(np.array([[100, 300, 900]], dtype=np.uint16), measured)
    assert grey[..., 0].tolist() == [[0, 42, 255]]


def test_training_statistics_are_per_channel(tmp_path):
    colour = np.zeros((2, 2, 3), dtype=np.uint8)
    colour[0, :, 2], colour[..., 0] = 255, 51  # OpenCV's blue first: red is half 0 and half 255, blue 51
    rows = write(tmp_path, [colour, colour])
    settings = InputSettings(normalisation="training", window=(0.0, 100.0))
    (low_high, means, deviations) = training_statistics(rows, settings)
    assert low_high == (0.0, 255.0)
    assert means == pytest.approx((0.5, 0, 0.2))
    assert deviations == pytest.approx((0.5, 1 / 255, 1 / 255))  # never 0: it is divided by
    rows = write(tmp_path, [colour[..., 2]])
    assert training_statistics(rows, settings)[1] == (0.5, 0.5, 0.5)


def test_many_images_are_sampled_evenly_for_statistics(monkeypatch):
    read = []

    def image(path):
        read.append(path)
        return np.full((1, 1), path, dtype=np.uint8)

    monkeypatch.setattr("seg_pipeline.segmentation.data.normalisation.read_image", image)
    rows = pd.DataFrame({"path": np.arange(1000) % 256})
    found = training_statistics(rows, InputSettings(channels="grey", normalisation="training"))
    assert len(read) == MAX_MEASURED
    assert read[:2] == [0, 3]
    assert read[-1] == 999 % 256
    assert training_statistics(rows, InputSettings(channels="grey", normalisation="training")) == found


def test_missing_or_mismatched_statistics_are_refused():
    without = InputSettings(normalisation="training")
    for use in (lambda: mean_std(without, IMAGENET), lambda: stored_pixels(VALUES, without)):
        with pytest.raises(ValueError, match="needs `statistics`; measure them with `training_statistics`"):
            use()
    grey = InputSettings(normalisation="training", statistics=((0.0, 9.0), (0.5,), (0.2,)))
    with pytest.raises(ValueError, match=r"must be \(low, high\), 3 means and 3 deviations, found 2, 1, 1 numbers"):
        mean_std(grey, IMAGENET)


@pytest.mark.parametrize("shape", [(20, 31), (64, 50), (40, 48), (50, 40)])
@pytest.mark.parametrize("channels", ["rgb", "grey"])
@pytest.mark.parametrize(("dtype", "planes"), [(np.uint8, ()), (np.uint16, ()), (np.uint8, (3,))])
def test_an_image_may_be_resized_before_grey_becomes_rgb(shape, channels, dtype, planes):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 48, *planes)).astype(dtype)
    settings = InputSettings(channels=channels)
    expected = resize_image(stored_pixels(image, settings), shape)
    np.testing.assert_array_equal(stored_pixels(image, settings, shape), expected)
