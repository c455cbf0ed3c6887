import math

import pytest
import segmentation_models_pytorch as smp
import torch

from seg_pipeline.segmentation.losses import bce_dice, ce_dice, class_target, make_loss, soft_dice_loss
from seg_pipeline.segmentation.masks import IGNORE

LN3 = math.log(3)  # sigmoid(±LN3) is 3/4 and 1/4, with cross-entropies ln 4/3 and ln 4


def masks_of(*classes):
    """uint8 (1, C, H, W) from nested lists (H, W)."""
    return torch.tensor([classes], dtype=torch.uint8)


@pytest.fixture
def batch():
    """Logits (2, 4, 5, 7) and masks (2, 3, 5, 7) with overlaps; every class occurs."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(2, 4, 5, 7, generator=generator)
    return logits, (torch.rand(2, 3, 5, 7, generator=generator) < 0.4).to(torch.uint8)


def exclusive(masks):
    """The masks with at most one class a pixel."""
    return masks * (masks.cumsum(1) == 1).to(torch.uint8)


# soft_dice_loss


@pytest.mark.parametrize(
    ("prob", "truth", "expected"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], 0),
        ([0.5, 0.5, 0, 0], [1, 1, 0, 0], 1 - 3 / 4),  # (2 × 1 + 1) / (1 + 2 + 1)
        ([1, 0, 0, 0], [0, 0, 1, 1], 1 - 1 / 4),
        ([0, 0, 0, 0], [0, 0, 0, 0], 0),  # nothing to find, nothing found
        ([1, 1, 1, 0], [0, 0, 0, 0], 3 / 4),  # three false pixels of an absent class
    ],
)
def test_soft_dice_loss_by_hand(prob, truth, expected):
    prob, truth = (torch.tensor(values, dtype=torch.float32).view(1, 1, 2, 2) for values in (prob, truth))
    assert soft_dice_loss(prob, truth).item() == pytest.approx(expected)


def test_soft_dice_loss_pools_the_batch_and_averages_the_classes():
    truth = torch.tensor([[[[1.0, 1.0]], [[0, 0]]], [[[0, 0]], [[0, 1]]]])  # (2, 2, 1, 2)
    prob = torch.tensor([[[[1.0, 0.0]], [[0, 0]]], [[[0, 1]], [[0, 1]]]])
    # class 0: one of two pixels found, a false one in the other image: (2 + 1) / (2 + 2 + 1); class 1: all
    assert soft_dice_loss(prob, truth).item() == pytest.approx(1 - (3 / 5 + 1) / 2)


def test_soft_dice_loss_is_smooth_pixels_wide():
    prob, truth = torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, 1, 2, 2)
    assert soft_dice_loss(prob, truth, smooth=6).item() == pytest.approx(2 / 8)


# bce_dice


def test_bce_dice_by_hand():
    logits = torch.tensor([[[[LN3, LN3], [-LN3, -LN3]]]])
    masks = masks_of([[1, 0], [0, 0]])
    bce = (3 * math.log(4 / 3) + math.log(4)) / 4
    dice = 1 - (2 * 0.75 + 1) / (2 + 1 + 1)  # Σp = 3/4 + 3/4 + 1/4 + 1/4
    assert bce_dice(logits, masks, dice_weight=0).item() == pytest.approx(bce)
    assert bce_dice(logits, masks, dice_weight=1).item() == pytest.approx(dice)
    assert bce_dice(logits, masks, dice_weight=0.25).item() == pytest.approx(0.75 * bce + 0.25 * dice)


def test_bce_dice_averages_over_classes_and_known_pixels():
    logits = torch.zeros(1, 2, 2, 2)
    masks = masks_of([[1, 0], [0, IGNORE]], [[0, 0], [0, 0]])
    dice = 1 - ((2 * 0.5 + 1) / (1.5 + 1 + 1) + 1 / (1.5 + 1)) / 2  # three pixels count in both classes
    assert bce_dice(logits, masks, dice_weight=0).item() == pytest.approx(math.log(2))
    assert bce_dice(logits, masks, dice_weight=1).item() == pytest.approx(dice)


def test_bce_dice_of_a_perfect_prediction_is_0(batch):
    _, masks = batch
    logits = 60.0 * masks - 30
    assert bce_dice(logits, masks).item() == pytest.approx(0, abs=1e-6)
    assert bce_dice(-logits, masks).item() > 15


def test_an_absent_class_is_pushed_down_from_every_pixel():
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    bce_dice(logits, torch.zeros(1, 1, 2, 2, dtype=torch.uint8), dice_weight=1).backward()
    # d/dz of Σp / (Σp + 1) with Σp = 2: p(1 - p) / (Σp + 1)² = 1/4 / 9
    torch.testing.assert_close(logits.grad, torch.full((1, 1, 2, 2), 1 / 36))


# ce_dice


def test_ce_dice_with_background_by_hand():
    # Softmax over (background, class): 3/4 for the class in the upper row, 1/4 in the lower one.
    logits = torch.tensor([[[[0.0, 0.0], [0.0, 0.0]], [[LN3, LN3], [-LN3, -LN3]]]])
    masks = masks_of([[1, 0], [0, 0]])
    ce = (3 * math.log(4 / 3) + math.log(4)) / 4
    dice = 1 - (2 * 0.75 + 1) / (2 + 1 + 1)  # of the class alone: the background has no Dice term
    assert ce_dice(logits, masks, dice_weight=0).item() == pytest.approx(ce)
    assert ce_dice(logits, masks, dice_weight=1).item() == pytest.approx(dice)
    assert ce_dice(logits, masks, dice_weight=0.25).item() == pytest.approx(0.75 * ce + 0.25 * dice)


def test_ce_dice_without_background_ignores_pixels_in_no_class():
    logits = torch.zeros(1, 2, 1, 3)
    logits[0, 0] = LN3  # class 0 has 3/4 everywhere
    masks = masks_of([[1, 0, 0]], [[0, 1, 0]])
    ce = (math.log(4 / 3) + math.log(4)) / 2
    dice = 1 - ((2 * 0.75 + 1) / (1.5 + 1 + 1) + (2 * 0.25 + 1) / (0.5 + 1 + 1)) / 2
    assert ce_dice(logits, masks, dice_weight=0).item() == pytest.approx(ce)
    assert ce_dice(logits, masks, dice_weight=1).item() == pytest.approx(dice)


def test_ce_dice_of_a_perfect_prediction_is_0(batch):
    _, masks = batch
    masks = exclusive(masks)
    background = 1 - masks.amax(1, keepdim=True)
    logits = 60.0 * torch.cat([background, masks], 1)
    assert ce_dice(logits, masks).item() == pytest.approx(0, abs=1e-6)


# both


@pytest.mark.parametrize(("loss", "channels"), [(bce_dice, 3), (ce_dice, 4), (ce_dice, 3)])
def test_an_ignored_pixel_counts_nowhere(batch, loss, channels):
    logits, masks = batch
    logits = logits[:, :channels].clone().requires_grad_()
    masks = masks.clone()
    masks[:, :, 3:] = 1
    masks[:, 1, 3:] = IGNORE  # one class is enough
    value = loss(logits, masks)
    value.backward()
    assert value.item() == pytest.approx(loss(logits[:, :, :3], masks[:, :, :3]).item())
    assert (logits.grad[:, :, 3:] == 0).all()
    assert (logits.grad[:, :, :3] != 0).any()


@pytest.mark.parametrize(("loss", "channels"), [(bce_dice, 3), (ce_dice, 4), (ce_dice, 3)])
def test_a_batch_with_nothing_known_costs_nothing(batch, loss, channels):
    logits = batch[0][:, :channels].clone().requires_grad_()
    value = loss(logits, torch.full((2, 3, 5, 7), IGNORE, dtype=torch.uint8))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(("loss", "channels"), [(bce_dice, 3), (ce_dice, 4)])
def test_half_precision_logits_are_summed_in_float32(loss, channels):
    # 300 × 300 pixels: bfloat16 sums stop growing long before, float16 ones overflow at 65,504.
    logits = torch.full((1, channels, 300, 300), 0.5)
    masks = torch.ones(1, 3, 300, 300, dtype=torch.uint8)
    expected = loss(logits, masks)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            value = loss(logits.to(dtype), masks)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected)


def test_dice_equals_smp_where_every_class_occurs(batch):
    logits, masks = batch
    multilabel = smp.losses.DiceLoss("multilabel", smooth=0.5)  # smp adds it to half of our fraction
    ours = bce_dice(logits[:, 1:], masks, dice_weight=1)
    torch.testing.assert_close(ours, multilabel(logits[:, 1:], masks))

    masks[:, :, 0] = IGNORE
    multiclass = smp.losses.DiceLoss("multiclass", classes=[1, 2, 3], smooth=0.5, ignore_index=IGNORE)
    ours = ce_dice(logits, masks, dice_weight=1)
    torch.testing.assert_close(ours, multiclass(logits, class_target(masks, num_channels=4)))


# class_target


def test_class_target_by_hand():
    masks = masks_of([[1, 1, 0, 0], [0, 1, 0, 0]], [[0, 1, 1, 0], [0, IGNORE, 0, 0]])
    with_background = class_target(masks, num_channels=3)
    assert with_background.dtype == torch.int64
    assert with_background.tolist() == [[[1, 2, 2, 0], [0, IGNORE, 0, 0]]]  # classes 0 and 1 overlap: 1 wins
    without = class_target(masks, num_channels=2)
    assert without.tolist() == [[[0, 1, 1, IGNORE], [IGNORE] * 4]]


def test_class_target_of_many_classes_does_not_wrap():
    masks = torch.zeros(1, 200, 1, 1, dtype=torch.uint8)
    masks[0, 199] = 1
    assert class_target(masks, num_channels=201).item() == 200


def test_class_target_refuses_other_numbers_of_channels():
    text = (
        r"^multiclass logits have 5 channels, but masks of 3 classes need 3, or 4 with a background; "
        r"set the model's num_classes to one$"
    )
    with pytest.raises(ValueError, match=text):
        class_target(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), num_channels=5)


# make_loss


@pytest.mark.parametrize(
    ("task", "name", "loss"), [("multilabel", "bce_dice", bce_dice), ("multiclass", "ce_dice", ce_dice)]
)
def test_make_loss_gives_the_named_loss_and_the_default(batch, task, name, loss):
    logits, masks = batch[0][:, 1:], batch[1]
    expected = loss(logits, masks, dice_weight=0.3)
    assert make_loss(task, name, dice_weight=0.3)(logits, masks) == expected
    assert make_loss(task, dice_weight=0.3)(logits, masks) == expected


@pytest.mark.parametrize(
    ("task", "name", "dice_weight", "text"),
    [
        ("binary", None, 0.5, "^task: 'binary' is unknown; expected one of multilabel, multiclass$"),
        (
            "multilabel",
            "ce_dice",
            0.5,
            "^loss: 'ce_dice' is not one for task 'multilabel'; expected one of bce_dice$",
        ),
        ("multiclass", None, 1.5, r"^dice_weight: 1\.5 is outside 0\.\.1$"),
    ],
)
def test_make_loss_refuses_what_it_does_not_know(task, name, dice_weight, text):
    with pytest.raises(ValueError, match=text):
        make_loss(task, name, dice_weight=dice_weight)
