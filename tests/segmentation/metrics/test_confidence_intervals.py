import math

import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.metrics import confidence_intervals
from seg_pipeline.segmentation.metrics.confidence_intervals import group_sums, interval, resampled_sums


def test_sums_of_groups_are_in_order_of_appearance():
    sums = group_sums(np.array([[1.0, 10], [2, 20], [4, 40]]), pd.Series(["b", "a", "b"]))
    assert sums.tolist() == [[5, 50], [2, 20]]


def test_resamples_draw_whole_groups_as_often_as_there_are():
    """Two groups, whose sums are 1 and 10: 2, 11 and 20 come up in a quarter, half and quarter of the draws."""
    drawn = resampled_sums(np.array([[1.0], [10.0]]), repeats=4000, seed=1)[:, 0]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [2, 11, 20]
    np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)


def test_equal_seeds_draw_equal_groups_so_that_differences_are_paired():
    sums = np.arange(12.0).reshape(6, 2)
    one, other = (resampled_sums(sums[:, [column]], repeats=50, seed=3) for column in (0, 1))
    np.testing.assert_array_equal(other - one, np.full((50, 1), 6.0))  # columns differ by 1 in each of 6 groups
    assert not np.array_equal(one, resampled_sums(sums[:, [0]], repeats=50, seed=4))


def test_the_draws_held_at_a_time_change_nothing(monkeypatch):
    sums = np.random.default_rng(0).random((7, 3))
    whole = resampled_sums(sums, repeats=20, seed=5)
    monkeypatch.setattr(confidence_intervals, "AT_ONCE", 21)
    np.testing.assert_allclose(resampled_sums(sums, repeats=20, seed=5), whole)


def test_the_mean_of_many_groups_has_the_interval_of_theory():
    values = np.random.default_rng(2).normal(5, 2, (400, 1))
    drawn = resampled_sums(values, repeats=2000, seed=0)[:, 0] / 400
    low, high = interval(drawn, confidence=0.95)
    error = values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.02)


def test_images_of_one_group_tell_no_more_than_the_group():
    """Ten copies of each of eight values, as groups, have the interval of the eight."""
    values = np.random.default_rng(3).random((8, 1))
    many = group_sums(np.repeat(values, 10, axis=0), np.repeat(np.arange(8), 10))
    one, ten = (resampled_sums(sums, repeats=500, seed=0)[:, 0] for sums in (values / 8, many / 80))
    np.testing.assert_allclose(one, ten)


def test_what_is_undefined_is_left_out():
    assert interval(np.array([math.nan, 1.0, 3.0]), confidence=0.8) == pytest.approx((1.2, 2.8))
    assert all(math.isnan(one) for one in interval(np.array([math.nan]), confidence=0.95))
