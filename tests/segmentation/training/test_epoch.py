import math
from dataclasses import replace

import pytest
import torch

from seg_pipeline.segmentation.data.loaders import make_loaders
from seg_pipeline.segmentation.manifest.table import data_hash
from seg_pipeline.segmentation.metrics.overlap import Collected, mean_dice
from seg_pipeline.segmentation.settings.training import ComputeSettings, FitSettings
from seg_pipeline.segmentation.training import epoch as engine
from seg_pipeline.segmentation.training import setup
from seg_pipeline.segmentation.training.processes import TrainingFailed
from seg_pipeline.segmentation.training.state import RunningMean, restore, start

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(manifest):
    return data_hash(manifest)


@pytest.fixture
def loaders(manifest):
    return lambda config: make_loaders(manifest, config, ComputeSettings(cache="ram", num_workers=0), device=CPU)


def train(state, loaders, moments=None, **options):
    """Trains on, all the way or for some yields."""
    for done, _ in enumerate(engine.fit(state, loaders, **options), start=1):
        if done == moments:
            break
    return state


def without_time(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def through_a_file(saved, tmp_path):
    torch.save(saved, tmp_path / "last.pt")
    return torch.load(tmp_path / "last.pt", weights_only=True)


def busy(config):
    """With all that has a state of its own."""
    return config.changed({"fit.ema": 0.9, "sampling.mix": "cutmix", "sampling.oversampling": "classes"})


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_run_stopped_anywhere_resumes_to_equal_weights(config, loaders, data, tmp_path, stop):
    """Two steps an epoch; saving after each step yields before and at the ends of epochs."""
    config = busy(config)
    whole = train(start(config, data, CPU), loaders(config))
    broken = train(start(config, data, CPU), loaders(config), moments=stop, save_minutes=0)
    assert (len(broken.history), broken.step) == {1: (0, 1), 3: (1, 1), 4: (2, 0)}[stop]
    saved = through_a_file(broken.to_dict(), tmp_path)
    torch.manual_seed(999)  # whatever happened to torch's generator in between must not matter
    resumed = train(restore(saved, CPU), loaders(config), save_minutes=0)
    assert len(whole.history) == config.fit.epochs
    assert without_time(resumed.history) == without_time(whole.history)
    assert same(resumed.model.state_dict(), whole.model.state_dict())
    assert same(resumed.mean.model.state_dict(), whole.mean.model.state_dict())
    assert same(resumed.best["model"], whole.best["model"])


def test_training_learns_and_keeps_the_best_epoch(config, loaders, data):
    rates = {"optimizer.learning_rate": 1e-2, "optimizer.schedule": "cosine", "optimizer.warmup": 0}
    longer = config.changed({"fit.epochs": 8, "sampling.augmentation": "none", **rates})
    state = train(start(longer, data, CPU), loaders(longer))
    first, last = state.history[0], state.history[-1]
    assert last["train_loss"] < 0.7 * first["train_loss"]
    assert state.best["row"]["val_dice"] == max(row["val_dice"] for row in state.history)
    assert [row["epoch"] for row in state.history] == list(range(1, 9))
    assert first["learning_rate"] == pytest.approx(1e-2, rel=0.02)
    assert last["learning_rate"] < 1e-3


def test_the_first_of_equally_good_epochs_is_kept(config, data):
    state = start(config, data, CPU)
    for epoch, score in enumerate([math.nan, 0.5, 0.5, 0.4, math.nan], start=1):
        state.add({"epoch": epoch, "val_dice": score, "seconds": 1.0})
    assert state.best["row"]["epoch"] == 2
    assert state.elapsed == 5


def test_patience_ends_a_run_that_stops_improving(config, data):
    state = start(config.changed({"fit.epochs": 50, "fit.patience": 2}), data, CPU)
    for epoch, score in enumerate([0.4, 0.5, 0.5], start=1):
        state.add({"epoch": epoch, "val_dice": score, "seconds": 1.0})
        assert not state.finished
    state.add({"epoch": 4, "val_dice": 0.45, "seconds": 1.0})
    assert state.finished


def test_progress_follows_steps_or_the_time_limit_whichever_is_further(config, data):
    state = start(config.changed({"fit.epochs": 10, "fit.max_minutes": 1}), data, CPU)
    state.total_steps, state.validation_seconds = 8, 20.0
    assert state.progress(4, seconds=1) == 8 / 40
    assert state.progress(4, seconds=30) == 30 / 40  # a minute less the time for the last validation
    assert state.progress(4, seconds=50) == 1


@pytest.mark.slow
def test_a_time_limit_ends_training_within_an_epoch_at_the_final_learning_rate(config, loaders, data):
    timed = config.changed({"fit.epochs": 100_000, "fit.max_minutes": 1.5 / 60})
    state = train(start(timed, data, CPU), loaders(timed))
    assert state.finished
    assert 0.5 < state.elapsed < 6
    assert not math.isnan(state.history[-1]["val_dice"])
    assert state.history[-1]["learning_rate"] < 0.5 * config.optimizer.learning_rate


def test_epochs_between_validations_have_no_score(config, loaders, data):
    sparse = config.changed({"fit.validate_every": 2})
    scores = [row["val_dice"] for row in train(start(sparse, data, CPU), loaders(sparse)).history]
    assert [math.isnan(score) for score in scores] == [True, False, False]  # the last one is always scored


def test_a_batch_in_parts_has_the_gradient_of_the_whole_for_a_mean_over_pixels(config, loaders, data):
    """Frozen batch norm and no Dice term: then a batch's loss is the mean of its parts'."""
    plain = config.changed({"loss.terms": {"bce": 1.0}, "optimizer.freeze_encoder": True, "model.decoder_norm": "none",
                            "optimizer.name": "sgd", "sampling.augmentation": "none"})  # fmt: skip
    parts = plain.changed({"sampling.micro_batch_size": 3})
    states = [train(start(one, data, CPU), loaders(one), moments=1) for one in (plain, parts)]
    for one, other in zip(*(state.model.parameters() for state in states), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    assert states[0].history[0]["train_loss"] == pytest.approx(states[1].history[0]["train_loss"], rel=1e-5)


def test_a_frozen_encoder_does_not_change(config, loaders, data):
    frozen = config.changed({"optimizer.freeze_encoder": True})
    before = start(frozen, data, CPU).model.state_dict()
    state = train(start(frozen, data, CPU), loaders(frozen), moments=1)
    after = state.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any("encoder" in name for name in changed)


def test_running_out_of_memory_halves_the_part_of_the_batch(config, loaders, data, monkeypatch, caplog):
    state = start(config, data, CPU)
    forward = state.model.forward

    def small_memory(images):
        if state.model.training and len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(images)

    monkeypatch.setattr(state.model, "forward", small_memory)
    with caplog.at_level("WARNING"):
        train(state, loaders(config), moments=1)
    assert state.micro_batch == 1
    assert [record.message for record in caplog.records] == [
        f"memory ran out: continuing with {number} images at a time, same batch size. From now on dice and batch norm "
        f"see only so many images at once, as with `training.sampling.micro_batch_size: {number}`"
        for number in (2, 1)
    ]


def test_memory_too_small_for_one_image_says_what_to_do(config, loaders, data, monkeypatch):
    state = start(config, data, CPU)

    def no_memory(images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(state.model, "forward", no_memory)
    with pytest.raises(TrainingFailed, match=r"memory ran out with 1 images of \(3, 32, 64\) at once; set a smaller"):
        train(state, loaders(config))


def test_a_loss_that_is_not_finite_keeps_the_weights_and_names_the_images(config, loaders, data, monkeypatch):
    state, parts = start(config, data, CPU), loaders(config)
    whole_loss, calls = setup.config_loss(config), []

    def broken_loss(logits, truth, *, batch_sums=None):
        calls.append({name: value.clone() for name, value in state.model.named_parameters()})
        return whole_loss(logits, truth) * (math.nan if len(calls) == 2 else 1)

    monkeypatch.setattr(setup, "config_loss", lambda _: broken_loss)
    with pytest.raises(TrainingFailed) as caught:
        train(state, parts)
    ids = ", ".join(parts.order.ids(0, 1))
    assert f"epoch 1, step 2: the loss or its gradient is not finite, on the images {ids}. The last save" in str(
        caught.value
    )
    assert same(calls[1], dict(state.model.named_parameters()))


def test_the_running_mean_follows_the_weights(config):
    state = start(config.changed({"fit.ema": 0.5}), "", CPU)
    weight = next(state.model.parameters())
    first = weight.detach().clone()
    mean = RunningMean(state.model, 0.5)
    with torch.no_grad():
        weight += 11
    mean.update(step=1)  # its decay is (1 + 1) / (10 + 1)
    torch.testing.assert_close(next(mean.model.parameters()), first + 9)
    mean.update(step=1000)  # and 0.5 later
    torch.testing.assert_close(next(mean.model.parameters()), first + 10)
    assert start(config, "", CPU).mean is None


def test_the_running_mean_is_validated_and_saved(config, loaders, data):
    steady = config.changed({"fit.ema": 0.999, "fit.epochs": 1})
    state = train(start(steady, data, CPU), loaders(steady))
    assert same(state.best["model"], state.mean.model.state_dict())
    assert not same(state.best["model"], state.model.state_dict())


@pytest.mark.parametrize("fit", ["resize", "pad", "crop"])
@pytest.mark.parametrize(("task", "background"), [("multilabel", False), ("multiclass", True), ("multiclass", False)])
def test_every_task_and_resize_mode_trains(config, loaders, data, task, background, fit):
    one = replace(config, task=task, background=background).changed({"input.resize_mode": fit, "fit.epochs": 1})
    (row,) = train(start(one, data, CPU), loaders(one)).history
    assert all(math.isfinite(row[f"{split}_{kind}"]) for split in ("train", "val") for kind in ("loss", "dice"))


def test_a_compiled_run_is_the_same_model(config, loaders, data, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: network)  # compiling itself takes a minute
    compiled = config.changed({"fit.compile": True, "fit.epochs": 1})
    plain = config.changed({"fit.epochs": 1})
    states = [train(start(one, data, CPU), loaders(one)) for one in (plain, compiled)]
    assert same(*(state.model.state_dict() for state in states))


def test_validation_dice_matches_the_metric(config, loaders, data):
    state = start(config.changed({"fit.epochs": 1}), data, CPU)
    parts = loaders(state.config)
    train(state, parts)
    state.model.eval()
    counts = Collected()
    with torch.inference_mode():
        for images, truth in parts.val:
            counts.add(state.model.counts(state.model(images), truth, threshold=0.5))
    expected = mean_dice(counts.all(), aggregation="dataset", empty_policy="skip")
    assert state.history[0]["val_dice"] == expected


def test_a_row_is_formatted_as_one_line():
    row = {"epoch": 2, "train_loss": 0.5, "train_dice": 0.25, "val_loss": 0.75, "val_dice": 0.125,
           "val_pixel_accuracy": 0.5, "seconds": 61.25}  # fmt: skip
    assert engine.format_row(row, FitSettings(epochs=9)) == (
        "epoch 2/9: loss 0.5000, validation loss 0.7500, Dice 0.1250, pixel accuracy 0.5000 (61.2 s)"
    )
    unscored = row | {"val_loss": math.nan}
    assert (
        engine.format_row(unscored, FitSettings(max_minutes=5))
        == "epoch 2: loss 0.5000, Dice 0.2500 in training, not validated (61.2 s)"
    )
