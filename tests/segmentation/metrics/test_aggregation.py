import math

import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from torchmetrics.functional.segmentation import dice_score, mean_iou

from seg_pipeline.segmentation.metrics import overlap as metrics
from seg_pipeline.segmentation.metrics.aggregation import RATIOS, SCORES, Aggregator, defined_mean, image_values
from seg_pipeline.segmentation.metrics.overlap import Counts, ImageCounts

NAN = math.nan
POLICIES = ("skip", "zero", "one")


def counts_of(true_pos, false_pos, false_neg):
    """Of lists (N, C)."""
    tensors = [torch.tensor(values) for values in (true_pos, false_pos, false_neg)]
    return Counts(*tensors, torch.zeros(len(true_pos)), torch.zeros(len(true_pos)))


def aggregator(aggregation="image", empty_policy="skip", repeats=0):
    return Aggregator(aggregation, empty_policy, repeats, seed=0)


def total(counts, score, **options):
    return aggregator(**options).estimate(counts, score, pd.Series(range(len(counts.known))))[0]


@pytest.mark.parametrize(
    ("true_pos", "false_pos", "false_neg", "expected"),
    [
        #           dice, iou, precision, recall
        (3, 1, 2, [6 / 9, 3 / 6, 3 / 4, 3 / 5]),
        (0, 0, 4, [0, 0, 0, 0]),  # missed: precision is 0, not left out
        (0, 4, 0, [0, 0, 0, NAN]),  # nothing to recall, whatever was predicted
        (0, 0, 0, [NAN, NAN, NAN, NAN]),
        (5, 0, 0, [1, 1, 1, 1]),
    ],
)
def test_scores_of_an_image_by_hand(true_pos, false_pos, false_neg, expected):
    counts = counts_of([[true_pos]], [[false_pos]], [[false_neg]])
    found = [
        image_values(counts, score, empty_policy="skip").item() for score in ("dice", "iou", "precision", "recall")
    ]
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("policy", "overlap", "distance"), [("skip", NAN, NAN), ("zero", 0, 9), ("one", 1, 0)])
def test_the_policy_names_the_score_of_nothing(policy, overlap, distance):
    zeros, one = torch.zeros((1, 1), dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    nothing = ImageCounts(*[zeros] * 3, one, one, *[zeros] * 4, torch.tensor([[NAN]]).double(), torch.tensor([9.0]))
    for score in RATIOS:
        assert image_values(nothing, score, empty_policy=policy).item() == pytest.approx(overlap, nan_ok=True)
    assert image_values(nothing, "hd95", empty_policy=policy).item() == pytest.approx(distance, nan_ok=True)


THREE = counts_of([[4, 0], [0, 0], [1, 0]], [[0, 0], [0, 0], [2, 5]], [[4, 0], [0, 0], [1, 0]])


@pytest.mark.parametrize("score", ["dice", "iou"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("aggregation", ["image", "dataset"])
def test_they_are_the_scores_of_training(score, policy, aggregation):
    theirs = metrics.class_scores(THREE, aggregation=aggregation, empty_policy=policy)[score]
    np.testing.assert_allclose(total(THREE, score, aggregation=aggregation, empty_policy=policy), theirs)


def random_masks():
    generator = torch.Generator().manual_seed(4)
    predicted = torch.rand(5, 3, 9, 7, generator=generator) > 0.6
    return predicted, (torch.rand(5, 3, 9, 7, generator=generator) > 0.5).to(torch.uint8)


def test_scores_are_torchmetrics_and_smps_where_no_class_is_empty():
    predicted, truth = random_masks()
    counts = metrics.count(predicted, truth)
    pair = predicted.long(), truth.long()
    options = {"num_classes": 3, "include_background": True}
    np.testing.assert_allclose(
        image_values(counts, "dice", empty_policy="skip"), dice_score(*pair, **options, average="none"), rtol=1e-6
    )
    np.testing.assert_allclose(
        image_values(counts, "iou", empty_policy="skip"), mean_iou(*pair, **options, per_class=True), rtol=1e-6
    )
    stats = smp.metrics.get_stats(*pair, mode="multilabel", threshold=0.5)
    for score, theirs in (("iou", "iou_score"), ("precision", "precision"), ("recall", "recall"), ("dice", "f1_score")):
        expected = getattr(smp.metrics, theirs)(*stats, reduction="none")
        np.testing.assert_allclose(image_values(counts, score, empty_policy="skip"), expected, rtol=1e-6)


def test_scores_of_the_whole_set_are_scikit_learns():
    predicted, truth = random_masks()
    counts = metrics.count(predicted, truth)
    flat = [masks.permute(1, 0, 2, 3).reshape(3, -1).T.numpy() for masks in (truth, predicted)]
    expected = precision_recall_fscore_support(*flat)[:3]
    for score, theirs in zip(("precision", "recall", "dice"), expected, strict=True):
        np.testing.assert_allclose(total(counts, score, aggregation="dataset"), theirs)


pixels = st.integers(0, 9)


@given(st.lists(st.tuples(pixels, pixels, pixels), min_size=2, max_size=6), st.sampled_from(POLICIES))
@settings(max_examples=150, deadline=None)
def test_to_miss_what_is_there_never_raises_a_mean_over_images(images, policy):
    (true_pos, _, false_neg), *_ = images
    if not true_pos + false_neg:
        return
    missed = [(0, 0, true_pos + false_neg), *images[1:]]
    found, without = (
        counts_of(*([[value] for value in column] for column in zip(*rows, strict=True))) for rows in (images, missed)
    )
    for score in ("dice", "iou", "precision", "recall"):
        before, after = (total(counts, score, empty_policy=policy).item() for counts in (found, without))
        assert after <= before + 1e-12


def test_a_missed_image_has_the_worst_distance():
    """Diagonals of 10 and 20; the second image is missed, which raises the mean distance from 2 to 11."""
    ones = torch.ones((2, 1), dtype=torch.int64)
    whole = torch.zeros(2, dtype=torch.int64)
    counts = ImageCounts(*[ones] * 3, whole, whole, *[ones] * 4, torch.tensor([[2.0], [2.0]]), torch.tensor([10.0, 20]))
    missed = counts._replace(hd95=torch.tensor([[2.0], [20.0]]))
    assert [total(one, "hd95").item() for one in (counts, missed)] == [2, 11]
    assert total(missed, "hd95", aggregation="dataset").item() == 11  # a distance is a mean over images always


@pytest.mark.parametrize("aggregation", ["image", "dataset"])
def test_a_resample_is_the_score_of_the_drawn_groups(aggregation):
    rng = np.random.default_rng(0)
    counts = Counts(*torch.from_numpy(rng.integers(0, 9, (3, 8, 2))), torch.zeros(8), torch.zeros(8))
    groups = pd.Series(list("aabbbccd"))
    _, resampled = aggregator(aggregation, repeats=5).estimate(counts, "dice", groups)
    names, draws = groups.unique(), np.random.default_rng(0).integers(4, size=(5, 4))
    for found, drawn in zip(resampled, draws, strict=True):
        rows = np.concatenate([np.flatnonzero(groups == names[one]) for one in drawn])
        part = Counts(*(value[rows] for value in counts))
        np.testing.assert_allclose(found, total(part, "dice", aggregation=aggregation))


def test_one_group_has_no_resamples():
    _, resampled = aggregator(repeats=50).estimate(THREE, "dice", pd.Series(["a"] * 3))
    assert resampled.shape == (0, 2)


def test_a_mean_leaves_out_what_is_undefined():
    assert defined_mean(np.array([[1.0, NAN, 3.0], [NAN] * 3])).tolist() == pytest.approx([2, NAN], nan_ok=True)


def test_every_score_is_named_once():
    assert SCORES == ("dice", "iou", "precision", "recall", "boundary_iou", "surface_dice", "hd95")
