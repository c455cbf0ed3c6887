import math
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional as F

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.losses import balanced_weights, default_terms, make_loss

LN3 = math.log(3)  # sigmoid(±LN3) is 3/4 and 1/4, with cross-entropies ln 4/3 and ln 4
TERMS = ("ce", "dice", "focal", "tversky", "lovasz")
CASES = [("multilabel", term, False) for term in ("bce", *TERMS[1:])]
CASES += [("multiclass", term, background) for term in TERMS for background in (False, True)]


def one(task, term, **options):
    return make_loss(task, terms={term: 1.0}, **options)


def truth_of(*values):
    """uint8 with an axis of one image in front."""
    return torch.tensor([*values], dtype=torch.uint8)[None]


def batch_of(task, *, channels=4, seed=3, dtype=torch.float32):
    """Logits (2, K, 5, 7) and truth in which every channel occurs."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, channels, 5, 7, generator=generator)
    if task == "multilabel":
        truth = torch.rand(2, channels, 5, 7, generator=generator) < 0.4
    else:
        truth = torch.randint(channels, (2, 5, 7), generator=generator)
    return logits.to(dtype), truth.to(torch.uint8)


# cross-entropy


def test_bce_by_hand():
    logits = torch.tensor([[[[LN3, LN3], [-LN3, -LN3]]]])
    bce = one("multilabel", "bce")(logits, truth_of([[1, 0], [0, 0]]))
    assert bce.item() == pytest.approx((3 * math.log(4 / 3) + math.log(4)) / 4)


def test_bce_weighs_the_known_pixels_of_each_class():
    logits = torch.tensor([[[[LN3, LN3]], [[LN3, 0.0]]]])
    truth = truth_of([[1, 0]], [[1, IGNORE]])  # the second class knows one pixel
    bce = one("multilabel", "bce", class_weights=[1, 3])(logits, truth)
    assert bce.item() == pytest.approx((math.log(4 / 3) + math.log(4) + 3 * math.log(4 / 3)) / (1 + 1 + 3))


def test_bce_and_its_gradient_equal_torchs_for_logits_of_any_size():
    logits = torch.tensor([0, 1e-3, 1, 15, 30, 90, 200]).repeat(2, 1)
    logits = (logits * torch.tensor([[1], [-1]])).repeat(1, 2)[None, None].requires_grad_()
    truth = torch.tensor([0, 1], dtype=torch.uint8).repeat_interleave(7).repeat(2, 1)[None, None]
    ours, theirs = one("multilabel", "bce")(logits, truth), F.binary_cross_entropy_with_logits(logits, truth.float())
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0, 0.0]])
def test_ce_and_its_gradient_equal_torchs(weights):
    logits, truth = batch_of("multiclass")
    truth[0, 1:3, 4:] = IGNORE
    logits.requires_grad_()
    ours = one("multiclass", "ce", class_weights=weights)(logits, truth)
    weights = None if weights is None else torch.tensor(weights)
    theirs = F.cross_entropy(logits, truth.long(), weights, ignore_index=IGNORE)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


def test_ce_of_a_certain_and_wrong_pixel_is_finite():
    logits = torch.tensor([200.0, 0, -200]).view(1, 3, 1, 1).requires_grad_()
    ce = one("multiclass", "ce")(logits, truth_of([2]))
    ce.backward()
    assert ce.item() == 400
    assert logits.grad.flatten().tolist() == [1, 0, -1]


# focal


def test_focal_by_hand():
    logits = torch.tensor([[[[LN3, LN3]]]])  # the truth has 3/4, then 1/4
    expected = ((1 / 4) ** 2 * math.log(4 / 3) + (3 / 4) ** 2 * math.log(4)) / 2
    assert one("multilabel", "focal")(logits, truth_of([[1, 0]])).item() == pytest.approx(expected)
    logits = torch.cat([torch.zeros_like(logits), logits], 1)
    assert one("multiclass", "focal")(logits, truth_of([1, 0])).item() == pytest.approx(expected)
    weighted = (3 * (1 / 4) ** 2 * math.log(4 / 3) + (3 / 4) ** 2 * math.log(4)) / 4
    assert one("multiclass", "focal", class_weights=[1, 3])(logits, truth_of([1, 0])).item() == pytest.approx(weighted)


def test_focal_equals_smp_for_multilabel():
    logits, truth = batch_of("multilabel")
    theirs = smp.losses.FocalLoss("multilabel", gamma=1.5)(logits, truth)
    torch.testing.assert_close(one("multilabel", "focal", focal_gamma=1.5)(logits, truth), theirs)


@pytest.mark.parametrize(("task", "entropy"), [("multilabel", "bce"), ("multiclass", "ce")])
def test_focal_with_gamma_0_is_the_cross_entropy(task, entropy):
    logits, truth = batch_of(task)
    torch.testing.assert_close(one(task, "focal", focal_gamma=0.0)(logits, truth), one(task, entropy)(logits, truth))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_of_a_certain_and_right_pixel_has_a_finite_gradient(gamma):
    logits = torch.tensor([[[[300.0, -300.0]]]], requires_grad=True)
    loss = one("multilabel", "focal", focal_gamma=gamma)(logits, truth_of([[1, 0]]))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad.flatten().tolist() == pytest.approx([0, 0], abs=1e-6)


# Dice and Tversky


@pytest.mark.parametrize(
    ("prob", "truth", "expected"),
    [
        ([1, 1, 0, 0], [1, 1, 0, 0], 0),
        ([0.5, 0.5, 0, 0], [1, 1, 0, 0], 1 - 3 / 4),  # (2 × 1 + 1) / (1 + 2 + 1)
        ([1, 0, 0, 0], [0, 0, 1, 1], 1 - 1 / 4),
        ([0, 0, 0, 0], [0, 0, 0, 0], 0),  # nothing to find, nothing found
        ([1, 1, 1, 0], [0, 0, 0, 0], 3 / 4),  # three false pixels of an absent class
        ([1, 0.5, 0, 0], [1, IGNORE, IGNORE, 0], 0),
    ],
)
def test_dice_by_hand(prob, truth, expected):
    logits = torch.tensor(prob).logit(eps=1e-30).clamp(-90, 90).view(1, 1, 2, 2)
    truth = torch.tensor(truth, dtype=torch.uint8).view(1, 2, 2)
    assert one("multilabel", "dice")(logits, truth[None]).item() == pytest.approx(expected)
    logits = torch.cat([torch.zeros_like(logits), logits], 1)
    assert one("multiclass", "dice", background=True)(logits, truth).item() == pytest.approx(expected)


def test_dice_pools_the_batch_and_averages_the_classes():
    truth = torch.tensor([[[[1, 1]], [[0, 0]]], [[[0, 0]], [[0, 1]]]])  # (2, 2, 1, 2)
    found = torch.tensor([[[[1, 0]], [[0, 0]]], [[[0, 1]], [[0, 1]]]])
    logits, truth = 180.0 * found - 90, truth.to(torch.uint8)
    # class 0: one of two pixels found, a false one in the other image: (2 + 1) / (2 + 2 + 1); class 1: all
    assert one("multilabel", "dice")(logits, truth).item() == pytest.approx((2 / 5 + 0) / 2)
    weighted = one("multilabel", "dice", class_weights=[3, 1])(logits, truth)
    assert weighted.item() == pytest.approx((3 * 2 / 5 + 0) / 4)


def test_dice_leaves_the_background_and_its_weight_out():
    logits = torch.zeros(1, 3, 1, 4)
    truth = truth_of([0, 0, 1, 2])
    each = 1 - (2 / 3 + 1) / (4 / 3 + 1 + 1)  # of classes 1 and 2: probability 1/3 everywhere, one pixel of four
    with_background = one("multiclass", "dice", background=True)
    assert with_background(logits, truth).item() == pytest.approx(each)
    weighted = one("multiclass", "dice", background=True, class_weights=[9, 1, 3])
    assert weighted(logits, truth).item() == pytest.approx(each)
    background = 1 - (4 / 3 + 1) / (4 / 3 + 2 + 1)
    assert one("multiclass", "dice")(logits, truth).item() == pytest.approx((2 * each + background) / 3)


def test_an_absent_class_is_pushed_down_from_every_pixel():
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    one("multilabel", "dice")(logits, torch.zeros(1, 1, 2, 2, dtype=torch.uint8)).backward()
    # d/dz of Σp / (Σp + 1) with Σp = 2: p(1 - p) / (Σp + 1)² = 1/4 / 9
    torch.testing.assert_close(logits.grad, torch.full((1, 1, 2, 2), 1 / 36))


@pytest.mark.parametrize("beta", [0.5, 0.8])
def test_tversky_and_its_gradient_equal_smps_where_every_class_occurs(beta):
    options = {"alpha": 1 - beta, "beta": beta, "smooth": 0.5}
    for task, classes in (("multilabel", None), ("multiclass", [1, 2, 3])):
        logits, truth = batch_of(task)
        logits.requires_grad_()
        ours = one(task, "tversky", tversky_beta=beta, background=task == "multiclass")(logits, truth)
        theirs = smp.losses.TverskyLoss(task, classes, **options)(logits, truth.long())
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))
        if beta == 0.5:
            torch.testing.assert_close(ours, one(task, "dice", background=task == "multiclass")(logits, truth))


def test_tversky_weighs_missed_against_false_pixels():
    logits = torch.tensor([[[[90.0, 90.0, -90.0, -90.0]]]])
    truth = truth_of([[1, 0, 1, 1]])  # one hit, one false, two missed
    loss = one("multilabel", "tversky", tversky_beta=0.9)(logits, truth)
    assert loss.item() == pytest.approx(1 - 1.5 / (1 + 0.1 * 1 + 0.9 * 2 + 0.5))


# Lovász


def test_lovasz_softmax_by_hand():
    logits = torch.tensor([[[[0.0, 0.0, 0.0]], [[LN3, -LN3, -LN3]]]])
    # Errors 1/4, 3/4, 1/4. Wrong in this order: IoU 1/2 after the pixel with 3/4, 0 after both of the class.
    lovasz = one("multiclass", "lovasz", background=True)(logits, truth_of([1, 1, 0]))
    assert lovasz.item() == pytest.approx(3 / 4 / 2 + 1 / 4 / 2)


def test_lovasz_hinge_by_hand():
    logits = torch.tensor([[[[2.0, 0.5, -0.25]]]])
    # Errors 0, 0.5, 0.75: the false pixel first, IoU 2/3, then one of the class, 1/3.
    lovasz = one("multilabel", "lovasz")(logits, truth_of([[1, 1, 0]]))
    assert lovasz.item() == pytest.approx(0.75 / 3 + 0.5 / 3)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_lovasz_and_its_gradient_equal_smps(task):
    # smp drops the ignored pixels from the batch, and takes all classes of multilabel for one: given one by one.
    logits, truth = batch_of(task)
    truth[..., 5:] = IGNORE
    logits.requires_grad_()
    ours = one(task, "lovasz")(logits, truth)
    lovasz = smp.losses.LovaszLoss(task, ignore_index=IGNORE)
    if task == "multiclass":
        theirs = lovasz(logits, truth)
    else:
        theirs = sum(lovasz(logits[:, [c]], truth[:, [c]]) for c in range(4)) / 4
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_lovasz_is_the_weighted_mean_of_the_classes_shown(task):
    logits, truth = batch_of(task)
    if task == "multilabel":
        truth[:, 2] = 0
    else:
        truth[truth == 2] = 3
    each = [
        one(task, "lovasz", class_weights=[float(c == channel) for c in range(4)])(logits, truth)
        for channel in range(4)
    ]
    assert each[2] == 0
    mean = (each[0] + each[1] + each[3]) / 3
    torch.testing.assert_close(one(task, "lovasz")(logits, truth), mean)
    weighted = (each[0] + 2 * each[1] + 4 * each[3]) / 7
    torch.testing.assert_close(one(task, "lovasz", class_weights=[1, 2, 8, 4])(logits, truth), weighted)


def test_lovasz_leaves_the_background_out():
    logits, truth = batch_of("multiclass")
    classes_alone = one("multiclass", "lovasz", class_weights=[0, 1, 1, 1])
    torch.testing.assert_close(
        one("multiclass", "lovasz", background=True)(logits, truth), classes_alone(logits, truth)
    )


# all terms


@pytest.mark.parametrize(("task", "term", "background"), CASES)
def test_an_ignored_pixel_counts_nowhere(task, term, background):
    logits, truth = batch_of(task)
    logits.requires_grad_()
    truth[..., 3:] = IGNORE
    loss = one(task, term, background=background)
    value = loss(logits, truth)
    value.backward()
    assert value.item() == pytest.approx(loss(logits[..., :3], truth[..., :3]).item())
    assert (logits.grad[..., 3:] == 0).all()
    assert (logits.grad[..., :3] != 0).any()


@pytest.mark.parametrize(("task", "term", "background"), CASES)
def test_a_batch_with_nothing_known_costs_nothing(task, term, background):
    logits, truth = batch_of(task)
    logits.requires_grad_()
    loss = one(task, term, background=background, class_weights=[0.1, 0.2, 0.3, 0.4])
    value = loss(logits, torch.full_like(truth, IGNORE))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(("task", "term", "background"), CASES)
def test_a_perfect_prediction_costs_nothing_and_its_opposite_much(task, term, background):
    _, truth = batch_of(task)
    shown = truth if task == "multilabel" else F.one_hot(truth.long()).movedim(-1, 1)
    logits = 60.0 * shown - 30
    loss = one(task, term, background=background)
    assert loss(logits, truth).item() == pytest.approx(0, abs=1e-6)
    assert loss(-logits, truth).item() > 0.8


@pytest.mark.parametrize(("task", "term", "background"), CASES)
def test_half_precision_logits_are_summed_in_float32(task, term, background):
    # 300 × 300 pixels: bfloat16 sums stop growing long before, float16 ones overflow at 65,504.
    logits = torch.tensor([0.5, 1, 0, -0.5]).view(1, 4, 1, 1).repeat(1, 1, 300, 300)
    truth = torch.ones(1, 4, 300, 300, dtype=torch.uint8)[:, 0 if task == "multiclass" else slice(None)]
    loss = one(task, term, background=background)
    expected = loss(logits, truth)
    for dtype in (torch.bfloat16, torch.float16):
        half = logits.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype):
            value = loss(half, truth)
            value.backward()
        assert value.dtype == torch.float32
        assert half.grad.dtype == dtype
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(("task", "term", "background"), CASES)
def test_the_layout_in_memory_makes_no_difference(task, term, background):
    logits, truth = batch_of(task)
    loss = one(task, term, background=background)
    torch.testing.assert_close(
        loss(logits.contiguous(memory_format=torch.channels_last), truth), loss(logits, truth), rtol=0, atol=0
    )


def test_the_254th_channel_is_not_the_ignored_one():
    logits = torch.zeros(1, 254, 1, 2)
    logits[0, 253] = 90
    truth = truth_of([253, IGNORE])
    assert make_loss("multiclass", class_weights=[1.0] * 254)(logits, truth).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_make_loss_adds_the_terms_up(task):
    logits, truth = batch_of(task)
    entropy = {"multilabel": "bce", "multiclass": "ce"}[task]
    options = {"class_weights": [1, 2, 3, 4], "focal_gamma": 1.0, "tversky_beta": 0.6}
    weights = {entropy: 0.2, "dice": 0.3, "focal": 2, "tversky": 1, "lovasz": 0.5}
    expected = sum(weight * one(task, term, **options)(logits, truth) for term, weight in weights.items())
    torch.testing.assert_close(make_loss(task, terms=weights, **options)(logits, truth), expected)


def test_cross_entropy_and_dice_are_the_default():
    assert default_terms("multilabel") == {"bce": 0.5, "dice": 0.5}
    assert default_terms("multiclass") == {"ce": 0.75, "dice": 0.25}
    logits, truth = batch_of("multiclass")
    by_name = make_loss("multiclass", terms={"ce": 0.75, "dice": 0.25})
    assert make_loss("multiclass")(logits, truth) == by_name(logits, truth)


# several processes


def rank_cases():
    """Batches of four images; the second two know few pixels and lack a class."""
    generator = torch.Generator().manual_seed(8)
    cases = {}
    for task, entropy in (("multilabel", "bce"), ("multiclass", "ce")):
        truth = torch.randint(2, (4, 3, 6, 9), generator=generator).to(torch.uint8)
        if task == "multiclass":
            truth = truth.sum(1, dtype=torch.uint8)
        truth[2:, ..., 2:] = IGNORE
        truth[2:][truth[2:] == 3] = 0
        channels = {"multilabel": 3, "multiclass": 4}[task]
        for name, terms in (
            (task, {entropy: 0.3, "dice": 1.0, "focal": 2.0, "tversky": 0.5}),
            ("lovasz", {"lovasz": 1}),
        ):
            cases[f"{name} of {task}"] = {
                "loss": {
                    "task": task,
                    "terms": terms,
                    "class_weights": [1.0, 0.5, 3.0, 2.0][:channels],
                    "background": task == "multiclass",
                },
                "images": torch.randn(4, 3, 6, 9, generator=generator),
                "truth": truth,
                "network": torch.nn.Conv2d(3, channels, 1).state_dict(),
            }
    return cases


def alone(case, part=slice(None)):
    """Loss and gradients of one process."""
    network = torch.nn.Conv2d(3, len(case["network"]["bias"]), 1)
    network.load_state_dict(case["network"])
    loss = make_loss(**case["loss"])(network(case["images"][part]), case["truth"][part])
    loss.backward()
    return [loss.detach(), *(parameter.grad for parameter in network.parameters())]


@pytest.mark.slow
def test_two_ranks_have_the_loss_and_the_gradient_of_one_process(warm, tmp_path):
    cases = rank_cases()
    torch.save(cases, tmp_path / "cases.pt")
    warm.run_ranks(Path(__file__).with_name("loss_of_rank.py"), tmp_path)
    found = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    for name, case in cases.items():
        if "lovasz" in name:  # stated: the mean of the ranks' own values
            halves = zip(alone(case, slice(2)), alone(case, slice(2, 4)), strict=True)
            expected = [(first + second) / 2 for first, second in halves]
        else:
            expected = alone(case)
        for rank in found:
            torch.testing.assert_close(rank[name], expected, rtol=1e-6, atol=1e-6)


# errors


@pytest.mark.parametrize(
    ("task", "options", "text"),
    [
        ("binary", {}, "^task: 'binary' is unknown; expected one of multilabel, multiclass$"),
        (
            "multiclass",
            {"terms": {"bce": 1.0, "dice": 1.0, "iou": 1.0}},
            "^loss terms: bce, iou not known for task 'multiclass'; expected some of ce, dice, focal, tversky, lovasz$",
        ),
        (
            "multilabel",
            {"terms": {"ce": 1.0}},
            "^loss terms: ce not known for task 'multilabel'; expected some of bce, dice, focal, tversky, lovasz$",
        ),
        (
            "multilabel",
            {"terms": {}},
            "^loss terms: none given; expected weights of some of bce, dice, focal, tversky, lovasz, "
            "or null for the default$",
        ),
        (
            "multilabel",
            {"terms": {"bce": 1.0, "dice": 0}},
            r"^loss terms: expected weights above 0, found {'dice': 0}; leave out what should not count$",
        ),
        (
            "multiclass",
            {"class_weights": [1.0, 0.0], "background": True},
            r"^class_weights: expected numbers of at least 0, and above 0 for some class, found \[1.0, 0.0\]$",
        ),
        (
            "multiclass",
            {"class_weights": [1.0, math.nan]},
            r"^class_weights: expected numbers of at least 0, and above 0 for some class, found \[1.0, nan\]$",
        ),
    ],
)
def test_make_loss_refuses_what_it_does_not_know(task, options, text):
    with pytest.raises(ValueError, match=text):
        make_loss(task, **options)


def test_a_loss_refuses_another_number_of_weights():
    text = (
        "^class_weights: 3 numbers, but the network has 4 channels; "
        "give one number per channel, starting with the background's if there is one$"
    )
    with pytest.raises(ValueError, match=text):
        make_loss("multiclass", class_weights=[1, 1, 1])(*batch_of("multiclass"))


# balanced_weights


def test_balanced_weights_by_hand():
    """Shares 0.9 and 0.1: the rarer weighs sqrt(9) = 3 times as much, and a pixel weighs 1 on average."""
    weights = balanced_weights([9000, 1000])
    assert weights[1] / weights[0] == pytest.approx(3)
    assert 0.9 * weights[0] + 0.1 * weights[1] == pytest.approx(1)


def test_balanced_weights_of_a_class_without_a_pixel_are_those_of_the_rarest():
    weights = balanced_weights([900, 0, 100])
    assert weights == pytest.approx((5 / 6, 2.5, 2.5))


def test_balanced_weights_need_a_pixel():
    text = (
        r"^class_weights: none of the 3 classes has a pixel in the train split; "
        r"check the masks, or set `class_weights: none`$"
    )
    with pytest.raises(ValueError, match=text):
        balanced_weights([0, 0, 0])
