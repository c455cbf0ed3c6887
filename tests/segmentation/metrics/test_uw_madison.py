import math

import numpy as np
import pytest
from scipy.spatial.distance import directed_hausdorff

from seg_pipeline.segmentation.metrics.uw_madison import VARIANTS, Rules, Volume, competition_score

NAN = math.nan


def box(shape, *spans):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*span) for span in spans)] = True
    return mask


def test_the_distance_by_hand():
    """Four frames of 5 x 10; the prediction reaches two columns further: 2 of 10."""
    truth = box((4, 5, 10), (1, 3), (1, 4), (2, 5))
    predicted = box((4, 5, 10), (1, 3), (1, 4), (2, 7))
    assert Volume.of(predicted, truth, truth.shape) == Volume(30, 18, pytest.approx(0.2))
    assert Volume.of(predicted[1:3], truth[1:3], truth.shape) == Volume.of(predicted, truth, truth.shape)
    assert Volume.of(truth, truth, truth.shape).distance == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_distance_is_scipys(seed):
    rng = np.random.default_rng(seed)
    predicted, truth = (rng.random((2, 4, 6, 9)) > 0.9).astype(bool)
    points = [np.argwhere(mask) / mask.shape for mask in (predicted, truth)]
    expected = max(directed_hausdorff(*points)[0], directed_hausdorff(*points[::-1])[0])
    assert Volume.of(predicted, truth, truth.shape).distance == pytest.approx(expected, rel=1e-5)


# Two images of two classes: found, nothing there (rightly), missed, false on an empty truth.
DICE = np.array([[0.8, NAN], [0.0, 0.0]])
TRUTH_EMPTY = np.array([[False, True], [False, True]])
BY_CLASS = [Volume(90, 100, 0.3), Volume(50, 0, NAN), Volume(0, 0, NAN)]
MERGED = [Volume(140, 100, 0.6), Volume(2000, 100, 0.1)]


@pytest.mark.parametrize(
    ("reading", "dice", "hausdorff"),
    [
        ("text", 0.8 / 4, (0.3 + 1) / 2),
        ("host_comment", 0.8 / 3, (0.3 + 1) / 2),
        ("organiser_note", 0.8 / 2, 0.3),
        ("mle_bench", 0.8 / 3, (0.6 / math.sqrt(3) + 1) / 2),
    ],
)
def test_each_reading_by_hand(reading, dice, hausdorff):
    rules = VARIANTS[reading]
    found = competition_score(DICE, TRUTH_EMPTY, MERGED if rules.merged else BY_CLASS, rules)
    assert found == pytest.approx(0.4 * dice + 0.6 * (1 - hausdorff))


def test_a_distance_is_one_at_most():
    volumes = [Volume(1, 1, 1.5)]
    assert competition_score(np.ones((1, 1)), np.zeros((1, 1), bool), volumes, Rules("zero")) == pytest.approx(0.4)


def test_without_anything_to_score_there_is_no_score():
    nothing = np.full((2, 1), NAN), np.ones((2, 1), dtype=bool), [Volume(0, 0, NAN)]
    assert all(math.isnan(competition_score(*nothing, rules)) for rules in VARIANTS.values())
