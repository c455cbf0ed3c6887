"""Single steps: what is not finite, memory that runs out, parts of a batch, and copies that wait for a GPU."""

import copy
import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from seg_pipeline.segmentation.data.loaders import make_loaders
from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.losses import make_loss
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.training import epoch, setup, step
from seg_pipeline.segmentation.training.epoch_metrics import EpochMetrics
from seg_pipeline.segmentation.training.optimizers import make_optimizer
from seg_pipeline.segmentation.training.processes import OutOfMemory, TrainingFailed
from seg_pipeline.segmentation.training.state import RunningMean, start
from seg_pipeline.segmentation.training.step import split_batch

CPU = torch.device("cpu")
IMAGES = torch.randint(256, (5, 3, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
TRUTH = torch.randint(2, (5, 2, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def loaders(manifest):
    return lambda config: make_loaders(manifest, config, ComputeSettings(cache="none", num_workers=0), device=CPU)


@pytest.fixture
def saved_states(loaders):
    """Trains, and saves after every step for as long as nothing fails."""

    def run(state):
        states = []
        with pytest.raises(TrainingFailed) as caught:
            states.extend(
                copy.deepcopy(state.to_dict()) for _ in epoch.fit(state, loaders(state.config), save_minutes=0)
            )
        return states, str(caught.value)

    return run


# What is not finite


def breaks_forward(state, monkeypatch):
    forward, calls = state.model.net.encoder.forward, []

    def broken(images):
        calls.append(1)
        return forward(images * (math.nan if len(calls) == 2 else 1))

    monkeypatch.setattr(state.model.net.encoder, "forward", broken)


def breaks_loss(state, monkeypatch):
    whole_loss, calls = setup.config_loss(state.config), []

    def broken(logits, truth, *, batch_sums=None):
        calls.append(1)
        return whole_loss(logits, truth) * (math.inf if len(calls) == 2 else 1)

    monkeypatch.setattr(setup, "config_loss", lambda _: broken)


@pytest.mark.parametrize("breaks", [breaks_forward, breaks_loss])
def test_a_step_that_is_not_finite_is_never_saved(config, saved_states, monkeypatch, breaks):
    """As on a GPU, where the host looks only every 50 steps; the second of three steps per epoch breaks."""
    monkeypatch.setattr(step, "should_check_loss", lambda _: False)
    state = start(config.changed({"fit.ema": 0.9, "sampling.batch_size": 3}), "", CPU)
    breaks(state, monkeypatch)
    states, error = saved_states(state)
    assert error.startswith("epoch 1, step 2: the loss or its gradient is not finite, on the images scan")
    assert "The last save is from before that step." in error
    (only,) = states
    assert only["step"] == 1
    for part in (only["model"], only["mean"], only["partial"]["counts"], {"sums": only["partial"]["sums"]}):
        assert all(value.isfinite().all() for value in part.values())
    if breaks is breaks_forward:  # batch norm has taken it in, which no skipped update undoes
        assert not all(buffer.isfinite().all() for buffer in state.model.buffers())


def test_weights_that_overflow_are_not_saved(config, saved_states):
    """The loss of the first step is finite, its gradient is; the weights are not any more."""
    wild = config.changed({"optimizer.learning_rate": 1e39, "optimizer.warmup": 0.0})
    states, error = saved_states(start(wild, "", CPU))
    assert states == []
    assert error.startswith("epoch 1, step 1: weights or batch statistics are not finite. The last save is from before")


@pytest.mark.parametrize(("name", "refused"), [("running_var", True), ("attention_mask", False)])
def test_statistics_have_to_be_finite_and_masks_need_not(config, name, refused):
    state = start(config.changed({"fit.ema": 0.9}), "", CPU)
    state.mean.model.register_buffer(name, torch.tensor([1.0, -math.inf]))  # in the running mean alone
    with pytest.raises(TrainingFailed, match="batch statistics are not finite") if refused else nullcontext():
        state.check_finite()


class Overflow(torch.autograd.Function):
    """0, with an infinite gradient."""

    @staticmethod
    def forward(ctx, logits):
        ctx.shape = logits.shape
        return logits.new_zeros(())

    @staticmethod
    def backward(ctx, _):
        return torch.full(ctx.shape, math.inf)


def half_precision(config, monkeypatch, overflows):
    """A state whose loss is scaled as for float16, and whose gradient overflows where ``overflows(step)``."""
    state = start(config, "", CPU)
    state.scaler = torch.amp.GradScaler("cpu", 2.0**16)
    whole_loss = setup.config_loss(config)

    def loss(logits, truth, *, batch_sums=None):
        return whole_loss(logits, truth) + (Overflow.apply(logits) if overflows(state.total_steps) else 0)

    monkeypatch.setattr(setup, "config_loss", lambda _: loss)
    return state


def test_float16_gradients_that_are_never_finite_end_a_short_run(config, saved_states, monkeypatch):
    state = half_precision(config.changed({"fit.epochs": 2}), monkeypatch, lambda _: True)
    before = {name: value.clone() for name, value in state.model.named_parameters()}
    _, error = saved_states(state)
    assert error == (
        "float16: the gradient is not finite, in any of the 4 steps, so no weight changes. Train in "
        "`training.fit.precision: bfloat16` or float32, or lower `training.optimizer.learning_rate`"
    )
    assert all(torch.equal(value, before[name]) for name, value in state.model.named_parameters())


def test_float16_gradients_that_stay_infinite_end_a_long_run(config, monkeypatch):
    state = half_precision(config, monkeypatch, lambda number: number > 0)
    run = bare_run(state)
    tally = EpochMetrics(state, run.processes)
    steps = (step.train_step(run, tally, (IMAGES[:2], TRUTH[:2]), 1.0) for _ in range(99))
    with pytest.raises(TrainingFailed, match="the gradient is not finite, though the loss is scaled by only 6e"):
        list(steps)
    assert state.total_steps == 31  # all but the first halved the scale


def test_float16_gradients_that_overflow_at_first_are_normal(config, loaders, monkeypatch):
    state = half_precision(config.changed({"fit.epochs": 2}), monkeypatch, lambda number: number < 3)
    list(epoch.fit(state, loaders(config)))
    assert state.finished
    assert state.scaler.get_scale() == 2.0**13


# Parts of a batch


@pytest.mark.parametrize(
    ("num_images", "at_once", "sizes"),
    [(5, 4, [3, 2]), (5, 2, [2, 2, 1]), (7, 3, [3, 2, 2]), (6, 3, [3, 3]), (4, 9, [4]), (3, 1, [1, 1, 1])],
)
def test_parts_are_as_equal_as_possible(num_images, at_once, sizes):
    parts = split_batch(num_images, at_once)
    assert [part.stop - part.start for part in parts] == sizes
    assert [index for part in parts for index in range(num_images)[part]] == list(range(num_images))
    assert step.smallest_part(num_images, at_once) == min(sizes)


@pytest.mark.parametrize("at_once", [2, 3])
def test_parts_match_the_whole_batch_despite_different_numbers_of_labelled_pixels(config, at_once):
    """Frozen batch norm and no Dice: then nothing sees more than a pixel. The first images know few pixels."""
    plain = config.changed({"loss.terms": {"bce": 1.0, "focal": 2.0}, "optimizer.freeze_encoder": True,
                            "model.decoder_norm": "none", "loss.class_weights": (1.0, 3.0)})  # fmt: skip
    truth = TRUTH.clone()
    truth[0], truth[1, :, 3:] = IGNORE, IGNORE
    found = []
    for micro in (None, at_once):
        state = start(plain, "", CPU)
        state.micro_batch = micro
        run = bare_run(state.model.train() and state)
        loss, _ = step._backward_parts(run, IMAGES, [(0.25, truth), (0.75, truth)])
        found.append([loss, *(one.grad for one in state.model.parameters() if one.grad is not None)])
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-7)


def bare_run(state):
    """A run without loaders."""
    loaders = SimpleNamespace(order=Order(), augmentation=None)
    return epoch.prepare_run(state, loaders, math.inf)


class Order:
    batch_size = 5

    def __len__(self):
        return 1


def test_parts_of_a_dice_loss_are_weighted_by_their_images():
    """Stated: Dice, Tversky and Lovász are means over the images of the parts' own."""
    truth = torch.randint(2, (5, 2, 6, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    truth[0, :, 2:] = IGNORE
    logits = torch.randn(5, 2, 6, 9, generator=torch.Generator().manual_seed(2))
    for term in ("dice", "tversky", "lovasz"):
        loss = make_loss("multilabel", terms={term: 2.0})
        parts = [loss(logits[part], truth[part], batch_sums=loss.batch_sums(truth, 2)) for part in split_batch(5, 4)]
        expected = [loss(logits[part], truth[part]) * (part.stop - part.start) / 5 for part in split_batch(5, 4)]
        torch.testing.assert_close(parts, expected)


# Memory that runs out


def test_memory_for_the_optimisers_first_values(config, saved_states, monkeypatch):
    state = start(config, "", CPU)

    def out_of_memory():
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(state.optimizer, "step", out_of_memory)
    _, error = saved_states(state)
    assert error == (
        "memory ran out when adamw updated the weights; set a smaller model, or `training.optimizer.name: sgd` with "
        "`momentum: 0`, which stores nothing per weight"
    )


def small_memory(state, monkeypatch, most):
    forward = state.model.forward

    def small(images):
        if not state.model.training and len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(images)

    monkeypatch.setattr(state.model, "forward", small)


def test_running_out_of_memory_in_validation_changes_no_score(config, loaders, monkeypatch, caplog):
    histories = []
    for most in (99, 1):
        state = start(config.changed({"fit.epochs": 1}), "", CPU)
        small_memory(state, monkeypatch, most)
        list(epoch.fit(state, loaders(config)))
        histories.append({name: value for name, value in state.history[0].items() if name != "seconds"})
    assert histories[0] == histories[1]
    said = [record.message for record in caplog.records if "memory ran out" in record.message]
    assert said == [f"memory ran out: validating {number} images at a time, with equal scores" for number in (2, 1)]


def test_memory_too_small_to_validate_an_image_says_what_to_do(config, loaders, monkeypatch):
    state = start(config, "", CPU)
    small_memory(state, monkeypatch, 0)
    with pytest.raises(OutOfMemory, match=r"ran out while validating an image of \(3, 32, 64\); set a smaller"):
        list(epoch.fit(state, loaders(config)))


def test_running_out_of_memory_never_leaves_batch_norm_a_single_value(config, loaders, monkeypatch):
    """At 32 x 32 the deepest map has one value per image, so parts of one image would not do."""
    state = start(config.changed({"input.size": (32, 32)}), "", CPU)
    forward = state.model.forward

    def small(images):
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(images)

    monkeypatch.setattr(state.model, "forward", small)
    with pytest.raises(OutOfMemory, match=r"memory ran out with 2 images of \(3, 32, 32\) at once"):
        list(epoch.fit(state, loaders(state.config)))
    assert state.micro_batch == 2


# Copies that wait for a GPU, and other things that only a GPU knows


def test_the_processes_agree_on_the_time_about_once_per_second(monkeypatch):
    """Steps of 0.25 s by the first process's clock; this one's stands still."""
    first, asked = [0.0], []

    class Two:
        world = 2

        def broadcast(self, _):
            asked.append(first[0])
            return first[0]

    watch = setup.Stopwatch(0.0, Two())
    for step_number in range(1, 22):
        first[0] = 0.25 * step_number
        watch.synchronise()
    assert asked == pytest.approx([0.25, 1.25, 2.25, 3.25, 4.25, 5.25])
    assert watch.seconds == 5.25
    watch.seconds = 1.0  # after a pause
    assert watch.seconds == 1.0


class BlockingCopies(TorchDispatchMode):
    """Records each copy between the host and a GPU for which the host waits."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._fused_adamw_.tensor_lr:  # fake tensors do not know it
            return None
        result = function(*args, **(kwargs or {}))
        name = str(function)
        if name.startswith(("aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten.is_nonzero")):
            self.found.append(name)
        if name.startswith(("aten._to_copy", "aten.copy_")):
            source = args[1] if name.startswith("aten.copy_") else args[0]
            waits = not ((kwargs or {}).get("non_blocking") or (name.startswith("aten.copy_") and True in args[2:]))
            if source.device.type != result.device.type and waits:
                self.found.append(f"{name} {tuple(source.shape)} {source.device} -> {result.device}")
        return result


def test_calls_that_wait_for_the_gpu_are_recorded():
    with FakeTensorMode(), BlockingCopies() as copies:
        there = torch.zeros(3, device="cuda")
        torch.tensor([1.0, 2.0], device="cuda")
        there.new_tensor(5)
        torch.zeros(2).to("cuda", non_blocking=True)
        there.cpu()
        there.copy_(torch.zeros(3))
    assert [name.split()[0] for name in copies.found] == ["aten._to_copy.default"] * 3 + ["aten.copy_.default"]


def move_to_fake_gpu(state):
    """All of a new state as it would be on a GPU, without numbers."""
    for module in state.model.modules():
        for values in (module._parameters, module._buffers):
            for name, value in values.items():
                if value is not None:
                    fake = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")
                    values[name] = nn.Parameter(fake) if isinstance(value, nn.Parameter) else fake
    state.device = torch.device("cuda", 0)
    state.optimizer = make_optimizer(state.model, state.config.optimizer)
    state.mean = RunningMean(state.model, state.config.fit.ema) if state.mean else None


def give_gradients(state):
    for parameter in state.model.parameters():
        parameter.grad = torch.empty_like(parameter)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # by the running mean's deepcopy
@pytest.mark.parametrize(
    "changes",
    [
        {"fit.ema": 0.9, "optimizer.learning_rate": 1e-3},
        {"sampling.mix": "mixup", "sampling.mix_share": 1.0, "loss.class_weights": (1.0, 2.0)},
        {"sampling.micro_batch_size": 2, "loss.terms": {"focal": 1.0, "lovasz": 1.0, "tversky": 1.0}},
        {"loss.pixel_stride": 2, "sampling.mix": "cutmix", "sampling.mix_share": 1.0},
    ],
)
def test_a_step_on_a_gpu_never_waits(config, changes, monkeypatch):
    monkeypatch.setattr(step, "_seed", lambda *_: None)  # there is no generator of a GPU here
    state = start(config.changed(changes), "", CPU)
    run = bare_run(state)
    state.model.train()
    monkeypatch.setattr(torch.Tensor, "backward", lambda _: give_gradients(state))  # its engine asks for a real GPU
    with FakeTensorMode(allow_non_fake_inputs=True):
        move_to_fake_gpu(state)
        tally = EpochMetrics(state, run.processes)
        with BlockingCopies() as copies:
            step.train_step(run, tally, (IMAGES, TRUTH), 1.0)  # the first one brings what stays on the device
            copies.found.clear()
            for _ in range(2):
                step.train_step(run, tally, (IMAGES, TRUTH), 0.5)
    assert copies.found == []
