import math
from pathlib import Path

import pytest
import torch
from torchmetrics.functional.segmentation import dice_score

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.metrics.overlap import (
    Collected,
    Counts,
    class_scores,
    confusion,
    count,
    count_labels,
    dice,
    iou,
    mean_dice,
    pixel_accuracy,
)

NAN = math.nan


def one_class(pred, truth):
    return count(torch.tensor(pred).bool().view(1, 1, 1, -1), torch.tensor(truth, dtype=torch.uint8).view(1, 1, 1, -1))


@pytest.mark.parametrize(
    ("pred", "truth", "expected_dice", "expected_iou"),
    [
        ([1, 1, 1, 1], [1, 1, 0, 0], 2 / 3, 1 / 2),
        ([1, 1, 0, 0], [1, 1, 0, 0], 1.0, 1.0),
        ([0, 0, 0, 0], [0, 0, 0, 0], NAN, NAN),  # nothing to find, nothing found: a matter of policy
        ([1, 0, 0, 0], [0, 0, 0, 0], 0.0, 0.0),  # one false pixel on an empty image
        ([0, 0, 0, 0], [1, 0, 0, 0], 0.0, 0.0),  # missed
        ([0, 1, 1, 0], [1, 1, 0, 0], 1 / 2, 1 / 3),  # shifted by one
        ([1, 1, 1, 0], [1, 1, IGNORE, 0], 1.0, 1.0),  # what is not known counts nowhere
    ],
)
def test_overlap_by_hand(pred, truth, expected_dice, expected_iou):
    counts = one_class(pred, truth)
    assert dice(counts, if_empty=NAN).item() == pytest.approx(expected_dice, nan_ok=True)
    assert iou(counts, if_empty=NAN).item() == pytest.approx(expected_iou, nan_ok=True)


def counts_of(true_pos, false_pos, false_neg):
    """Counts of N images and C classes from nested lists."""
    tensors = [torch.tensor(value) for value in (true_pos, false_pos, false_neg)]
    return Counts(*tensors, right=torch.zeros(len(true_pos)), known=torch.ones(len(true_pos)))


def test_labels_are_counted_by_hand():
    """Two classes after a background, 2 x 3 pixels; what is not known counts nowhere."""
    predicted = torch.tensor([[[0, 1, 2], [2, 2, 1]]])
    truth = torch.tensor([[[0, 1, 1], [2, 0, IGNORE]]], dtype=torch.uint8)
    counts = count_labels(predicted, truth, num_classes=2, background=True)
    assert counts.true_pos.tolist() == [[1, 1]]
    assert counts.false_pos.tolist() == [[0, 2]]
    assert counts.false_neg.tolist() == [[1, 0]]
    assert (counts.right.tolist(), counts.known.tolist()) == ([3], [5])


# Two classes in three images: the second class is in no image, and wrongly predicted in the last.
THREE = counts_of([[4, 0], [0, 0], [1, 0]], [[0, 0], [0, 0], [2, 5]], [[4, 0], [0, 0], [1, 0]])


@pytest.mark.parametrize(
    ("aggregation", "empty_policy", "expected"),
    [
        ("image", "skip", [(8 / 12 + 2 / 5) / 2, 0.0]),
        ("image", "zero", [(8 / 12 + 0 + 2 / 5) / 3, 0.0]),
        ("image", "one", [(8 / 12 + 1 + 2 / 5) / 3, 2 / 3]),
        ("dataset", "skip", [10 / 17, 0.0]),
    ],
)
def test_aggregation_and_empty_policy_by_hand(aggregation, empty_policy, expected):
    scores = class_scores(THREE, aggregation=aggregation, empty_policy=empty_policy)
    assert scores["dice"].tolist() == pytest.approx(expected)
    assert mean_dice(THREE, aggregation=aggregation, empty_policy=empty_policy) == pytest.approx(sum(expected) / 2)


def test_a_class_that_nobody_shows_has_no_score_and_no_weight():
    counts = counts_of([[3, 0]], [[0, 0]], [[3, 0]])
    assert class_scores(counts, aggregation="image", empty_policy="skip")["dice"].tolist() == pytest.approx(
        [2 / 3, NAN], nan_ok=True
    )
    assert mean_dice(counts, aggregation="image", empty_policy="skip") == pytest.approx(2 / 3)


@pytest.mark.parametrize("empty_policy", ["skip", "zero", "one"])
@pytest.mark.parametrize("aggregation", ["image", "dataset"])
def test_a_missed_object_never_raises_the_mean(aggregation, empty_policy):
    found = counts_of([[5], [4], [0]], [[1], [0], [0]], [[0], [2], [0]])
    missed = counts_of([[5], [0], [0]], [[1], [0], [0]], [[0], [6], [0]])
    options = {"aggregation": aggregation, "empty_policy": empty_policy}
    assert mean_dice(missed, **options) < mean_dice(found, **options)


def random_masks(seed=0):
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.rand(4, 3, 9, 7, generator=generator) > 0.6
    return predicted, (torch.rand(4, 3, 9, 7, generator=generator) > 0.5).to(torch.uint8)


def test_dice_agrees_with_torchmetrics_where_no_class_is_empty():
    predicted, masks = random_masks()
    ours = dice(count(predicted, masks), if_empty=NAN).float()
    theirs = dice_score(predicted.long(), masks.long(), num_classes=3, include_background=True, average="none")
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_batches_add_up_to_the_whole(at_once):
    predicted, masks = random_masks()
    whole, collected = count(predicted, masks), Collected(at_once=at_once)
    for part in (slice(0, 2), slice(2, 3), slice(3, 4)):
        collected.add(count(predicted[part], masks[part]))
    for ours, expected in zip(collected.all(), whole, strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.slow
def test_two_processes_gather_the_counts_of_all_images(warm, tmp_path):
    warm.run_ranks(Path(__file__).parents[1] / "training" / "epoch_metrics_of_rank.py", tmp_path)
    expected = count(*random_masks())
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt")
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_a_single_image_keeps_its_axes():
    counts, collected = one_class([1, 0], [1, 1]), Collected()
    collected.add(counts)
    assert [value.shape for value in collected.all()] == [value.shape for value in counts]


def test_pixel_accuracy_asks_for_all_classes_of_a_pixel():
    predicted = torch.tensor([[[[1, 0, 1, 1]], [[0, 0, 1, 1]]]]).bool()
    masks = torch.tensor([[[[1, 0, 1, IGNORE]], [[0, 1, 1, IGNORE]]]], dtype=torch.uint8)
    assert pixel_accuracy(count(predicted, masks)) == pytest.approx(2 / 3)


def test_confusion_by_hand():
    #                     right  a as b  missed  false b  ignored  both, one found
    truth = [[[1, 1, 1, 0, IGNORE, 1]], [[0, 0, 0, 0, IGNORE, 1]]]
    found = [[[1, 0, 0, 0, 1, 1]], [[0, 1, 0, 1, 1, 0]]]
    matrix = confusion(torch.tensor([found]).bool(), torch.tensor([truth], dtype=torch.uint8))
    assert matrix.tolist() == [
        [2, 1, 1],  # a: found twice, once taken for b, once missed
        [1, 0, 0],  # b: at the pixel of both, only a was found
        [0, 1, 0],  # background: b was seen where nothing is
    ]
