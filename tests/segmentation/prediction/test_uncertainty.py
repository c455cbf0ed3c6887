"""Calibrated probabilities, uncertainty of images and pixels, and the flag, worked by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.metrics.review import score_flags
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, make_masks
from seg_pipeline.segmentation.prediction.uncertainty import (
    SCORES,
    calibrated,
    entropy_map,
    image_uncertainty,
    spread_map,
)
from seg_pipeline.segmentation.prediction.uncertainty_choice import (
    Pixels,
    choose_flag,
    fit_temperatures,
    flag_limit,
    sample_pixels,
)
from seg_pipeline.segmentation.settings.review import ReviewSettings


def sigmoid(logits):
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def test_a_temperature_divides_the_logits():
    probabilities = np.array([[[0.9, 0.5, 0.2, 0.0, 1.0]], [[0.9, 0.5, 0.2, 0.0, 1.0]]], dtype=np.float32)
    found = calibrated(probabilities, (2.0, 0.5), "multilabel")
    # 0.9 has the odds 9: 3 / (3 + 1) and 81 / (81 + 1); 0.2 has the odds 1/4: 1/2 / (1/2 + 1) and 1/16 / (1/16 + 1)
    expected = [[[3 / 4, 0.5, 1 / 3, 0, 1]], [[81 / 82, 0.5, 1 / 17, 0, 1]]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert calibrated(probabilities, None, "multilabel") is probabilities


def test_a_temperature_keeps_the_most_probable_class():
    probabilities = np.array([[[0.64]], [[0.32]], [[0.04]]], dtype=np.float32)
    # roots 0.8, 0.5657 and 0.2 sum to 1.5657
    found = calibrated(probabilities, (2.0, 2.0), "multiclass")
    np.testing.assert_allclose(found.ravel(), [0.51096, 0.36131, 0.12774], rtol=1e-4)


@pytest.mark.parametrize("temperature", [0.6, 1.7, 4.0])
@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_masks_at_one_half_do_not_change(task, temperature):
    logits = np.random.default_rng(0).normal(0, 4, (3, 50, 70))
    if task == "multilabel":
        probabilities, plain, values = sigmoid(logits), Postprocessing.none(3, 0.5), (temperature, 1.2, 3.0)
    else:
        probabilities = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)
        plain, values = Postprocessing.none(2, None), (temperature, temperature)
    about = {"task": task, "background": task == "multiclass"}
    masks = make_masks(probabilities, plain, **about)
    assert np.array_equal(make_masks(calibrated(probabilities, values, task), plain, **about), masks)


def drawn_pixels(temperature, number, seed, rate=1.0):
    """Logits and a truth whose probability is that of the logits divided by ``temperature``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 3, number)
    return sigmoid(logits), (rng.random(number) < rate * sigmoid(logits / temperature)).astype(np.uint8)


def test_the_fit_recovers_each_class_its_temperature_and_ignores_ignored_pixels():
    (first, true), (second, other) = drawn_pixels(2.5, 60_000, 1), drawn_pixels(0.7, 60_000, 2)
    true[::10], first[::10] = IGNORE, 0.999
    found = fit_temperatures(
        [Pixels(np.stack([first, second]), np.stack([true, other]))], "multilabel", background=False
    )
    assert found == pytest.approx((2.5, 0.7), rel=0.05)


def test_a_rare_class_takes_the_temperature_of_all():
    (first, true), (second, other) = drawn_pixels(2.0, 40_000, 1), drawn_pixels(2.0, 40_000, 2)
    other[np.flatnonzero(other)[900:]] = IGNORE
    pixels = Pixels(np.stack([first, second]), np.stack([true, other]))
    own, shared = fit_temperatures([pixels], "multilabel", background=False)
    assert own == pytest.approx(2, rel=0.05)
    assert shared != own
    rare = Pixels(pixels.probabilities[1:], pixels.truth[1:])
    assert fit_temperatures([rare], "multilabel", background=False) is None


@pytest.mark.parametrize("background", [True, False])
def test_a_multiclass_task_has_one_temperature(background):
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 4, (3, 40_000))
    soft = np.exp(logits / 1.8) / np.exp(logits / 1.8).sum(0)
    channel = (rng.random(40_000) > soft.cumsum(0)).sum(0)
    truth = (channel == np.arange(background, 3)[:, None]).astype(np.uint8)
    probabilities = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)
    found = fit_temperatures([Pixels(probabilities, truth)], "multiclass", background=background)
    assert found == pytest.approx((1.8,) * len(truth), rel=0.05)


def test_sampled_pixels_belong_together():
    values = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    for number, expected in ((7, 7), (12, 12), (50, 12)):
        pixels = sample_pixels(values, values.astype(np.uint8), number, seed=3)
        assert pixels.probabilities.shape == (1, expected)
        assert np.array_equal(pixels.probabilities, pixels.truth)


def test_entropy_is_1_where_nothing_is_known():
    multilabel = np.array([[[0.5, 1.0, 0.0, 0.11]], [[0.0, 0.0, 0.0, 0.0]]], dtype=np.float32)
    np.testing.assert_allclose(
        entropy_map(multilabel, "multilabel"), [[1, 0, 0, 0.4999]], atol=1e-4
    )  # H(0.11) = 0.4999
    multiclass = np.array([[[0.25, 1]], [[0.25, 0]], [[0.25, 0]], [[0.25, 0]]], dtype=np.float32)
    np.testing.assert_allclose(entropy_map(multiclass, "multiclass"), [[1, 0]], atol=1e-6)


def test_expected_dice_of_one_class():
    probabilities = np.array([[[0.9, 0.8, 0.3, 0.0]]], dtype=np.float32)
    # two pixels predicted, 1.7 of them right, 2.0 expected in all: 2 * 1.7 / (2 + 2)
    assert SCORES["expected_dice"](probabilities, "multilabel", False) == pytest.approx(1 - 3.4 / 4)
    # a class without a pixel counts for 0.4, with a Dice of 0
    both = np.concatenate([probabilities, np.array([[[0.4, 0, 0, 0]]], dtype=np.float32)])
    assert SCORES["expected_dice"](both, "multilabel", False) == pytest.approx(1 - 0.85 / 1.4)
    assert SCORES["expected_dice"](both[1:], "multilabel", False) == pytest.approx(0.4)
    assert SCORES["expected_dice"](np.zeros((2, 3, 4), dtype=np.float32), "multilabel", False) == 0


def test_border_entropy_is_that_of_a_band():
    """A square of 4 x 4: its band of one pixel on each side is all but the inner 2 x 2 of a 6 x 6."""
    probabilities = np.zeros((1, 20, 30), dtype=np.float32)
    probabilities[0, 5:9, 11:15] = 1
    probabilities[0, 5, 11:15] = 0.75
    probabilities[0, 0, 0] = 0.5  # far from the border
    bits = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert SCORES["border_entropy"](probabilities, "multilabel", False) == pytest.approx(4 * bits / (36 - 4), rel=1e-5)
    assert SCORES["border_entropy"](probabilities[:, :4], "multilabel", False) == 1  # nothing predicted: the largest
    assert SCORES["mean_entropy"](probabilities, "multilabel", False) == pytest.approx((4 * bits + 1) / 600, rel=1e-5)


@pytest.mark.parametrize(("catch", "limit"), [(0.9, 0.1), (0.75, 0.3), (0.51, 0.3), (0.5, 0.5), (0.1, 0.9)])
def test_the_limit_is_the_highest_that_catches_the_share(catch, limit):
    values = np.array([0.9, 0.1, 0.5, 0.3, 0.8, 0.95, 0.5])
    low = np.array([True, True, True, True, False, False, False])
    assert flag_limit(values, low, catch) == limit
    assert flag_limit(values, low & False, catch) is None


def test_the_score_that_ranks_best_is_chosen():
    dice = np.array([0.9, 0.7, math.nan, 0.5, 0.6])
    candidates = pd.DataFrame(
        {"expected_dice": [0.1, 0.5, 0.9, 0.4, 0.3], "border_entropy": [1, 2, 2.5, 4, 3], "mean_entropy": [0] * 5}
    )
    found = choose_flag(candidates, dice, ReviewSettings(dice_below=0.65, catch=0.9))
    assert found["score"] == "border_entropy"
    assert found["rank_correlation"]["border_entropy"] == pytest.approx(1)
    assert found["rank_correlation"]["mean_entropy"] is None
    assert (found["look_above"], found["num_low"], found["num_images"], found["flagged"]) == (3, 2, 4, 0.4)


def test_an_image_at_the_limit_is_flagged():
    probabilities = np.array([[[0.9, 0.8, 0.3, 0.0]]], dtype=np.float32)
    plain = Postprocessing.none(1, 0.5)
    limit = SCORES["expected_dice"](probabilities, "multilabel", False)
    assert image_uncertainty(probabilities, plain, task="multilabel", background=False) == (limit, None)
    for above, flag in ((limit, True), (limit + 1e-6, False)):
        given = Postprocessing.from_dict({**plain.to_dict(), "look_above": above})
        assert image_uncertainty(probabilities, given, task="multilabel", background=False).look_at_this is flag


def test_settings_of_earlier_versions_have_no_temperature():
    old = Postprocessing.none(2, 0.5).to_dict()
    for name in ("temperatures", "uncertainty", "look_above"):
        del old[name]
    assert Postprocessing.from_dict(old) == Postprocessing.none(2, 0.5)


def test_flags_are_counted_against_the_dice():
    names = ["a", "b", "c", "d", "e"]
    dice = [0.9, 0.5, 0.3, math.nan, 0.95]
    scores = pd.DataFrame({"image_id": names * 2, "group": ["x", "x", "y", "y", "z"] * 2, "dice": dice + dice})
    flags = pd.DataFrame({"image_id": names[::-1], "uncertainty": [0.1, 0.2, 0.4, 0.3, 0.35]})
    flags["look_at_this"] = pd.array([False, False, True, False, True], dtype="boolean")  # c and a
    found = score_flags(scores, flags, dice_below=0.8, repeats=200, seed=0, confidence=0.95)
    assert [found[name] for name in ("num_low", "caught", "missed", "false_alarms")] == [2, 1, 1, 1]
    assert (found["catch"], found["precision"], found["flagged"]) == (0.5, 0.5, 0.4)
    assert found["catch_interval"] == [0, 1]
    assert found["rank_correlation"] == pytest.approx(0.8)  # ranks of a, b, c, e: 3, 2, 4, 1 and 3, 2, 1, 4
    unknown = flags.assign(look_at_this=pd.array([pd.NA] * 5, dtype="boolean"))
    assert score_flags(scores, unknown, dice_below=0.8, repeats=200, seed=0, confidence=0.95) is None


def test_the_spread_of_folds_is_twice_the_largest_deviation():
    one = np.array([[[0.5, 1.0, 0.2]], [[0.1, 0.0, 0.2]]], dtype=np.float32)  # two classes of 1 x 3 pixels
    other = np.array([[[0.5, 0.0, 0.4]], [[0.5, 0.0, 0.2]]], dtype=np.float32)
    np.testing.assert_allclose(spread_map([one, other]), [[0.4, 1, 0.2]], atol=1e-6)
