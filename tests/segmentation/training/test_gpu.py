"""What only a GPU can show. ``scripts/gpu_check.sh`` runs these tests on a bare CUDA machine: no Kedro, no network."""

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from seg_pipeline.segmentation.data.loaders import make_loaders
from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.prediction.predict_images import plain_masks, predict_masks
from seg_pipeline.segmentation.settings.training import ComputeSettings, ModelSettings
from seg_pipeline.segmentation.training import epoch
from seg_pipeline.segmentation.training.acceleration import WARM_UP, Replay
from seg_pipeline.segmentation.training.auto_settings import resolve_auto_settings
from seg_pipeline.segmentation.training.batch_size import largest_batch
from seg_pipeline.segmentation.training.epoch_metrics import EpochMetrics
from seg_pipeline.segmentation.training.run import train
from seg_pipeline.segmentation.training.setup import config_loss
from seg_pipeline.segmentation.training.state import restore, start
from seg_pipeline.segmentation.training.step import train_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("default"),  # libraries warn of other things from version to version
]
GPU = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def many(manifest):
    """40 train and 6 val images."""
    train, val = manifest[manifest["split"] == "train"], manifest[manifest["split"] == "val"]
    return pd.concat([train] * 4 + [val] * 2, ignore_index=True)


@pytest.fixture
def fit(many):
    """Trains to the end, or for some yields; returns the state."""

    def run(config, state=None, *, moments=None, save_minutes=None, cache="device", workers=0):
        compute = ComputeSettings(cache=cache, num_workers=workers)
        state = state or start(config, "", GPU)
        loaders = make_loaders(many, config, compute, device=GPU)
        for done, _ in enumerate(epoch.fit(state, loaders, save_minutes=save_minutes), start=1):
            if done == moments:
                break
        return state

    return run


def weights_of(state):
    return {name: value.cpu() for name, value in state.eval_model.state_dict().items() if value.is_floating_point()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_training_learns_in_every_precision(config, fit, precision):
    changed = config.changed({"fit.precision": precision, "fit.epochs": 6, "fit.ema": 0.9})
    history = fit(changed).history
    assert all(math.isfinite(value) for row in history for value in row.values())
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]


def test_a_function_is_replayed_with_new_dropout_and_equal_seeds():
    def noisy(values):
        return torch.nn.functional.dropout(values * 2, 0.5), values.sum()

    replay = Replay(noisy, GPU)
    for call in range(WARM_UP + 4):
        values = torch.full((1000,), float(call))
        torch.cuda.manual_seed(call)
        got = replay(values.to(GPU))
        torch.cuda.manual_seed(call)
        expected = noisy(values.to(GPU))
        assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True)), call
    assert replay._graph is not None
    assert len(replay(torch.ones(7, device=GPU))[0]) == 7  # of another shape: not replayed


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_replayed_step_equals_a_launched_one(config, fit, monkeypatch, optimizer):
    changed = config.changed(
        {"fit.repeatable": True, "fit.tf32": False, "optimizer.name": optimizer, "fit.epochs": 2, "fit.ema": 0.9}
    )
    replayed = fit(changed)
    monkeypatch.setattr(epoch, "Replay", lambda function, _: function)
    launched = fit(changed)
    theirs = weights_of(launched)
    for name, value in weights_of(replayed).items():
        torch.testing.assert_close(
            value, theirs[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_the_step_is_really_replayed(config, many, caplog):
    state = start(config, "", GPU)
    loaders = make_loaders(many, config, ComputeSettings(cache="device"), device=GPU)
    run = epoch.prepare_run(state, loaders, math.inf)
    tally = EpochMetrics(state, run.processes)
    state.model.train()
    for batch in loaders.train:
        train_step(run, tally, batch, 0.5)
    assert isinstance(run.update, Replay)
    assert run.update._graph is not None, caplog.text


@pytest.mark.parametrize("cache", ["device", "ram"])
@pytest.mark.parametrize("replayed", [True, False])
def test_no_step_waits_for_the_gpu(config, many, monkeypatch, cache, replayed):
    if not replayed:
        monkeypatch.setattr(epoch, "Replay", lambda function, _: function)
    state = start(config.changed({"fit.ema": 0.9, "fit.precision": "bfloat16"}), "", GPU)
    loaders = make_loaders(many, config, ComputeSettings(cache=cache, num_workers=0), device=GPU)
    run = epoch.prepare_run(state, loaders, math.inf)
    tally = EpochMetrics(state, run.processes)
    state.model.train()
    batches = iter(loaders.train)
    try:
        for number, batch in enumerate(batches, start=1):
            train_step(run, tally, batch, 0.5)
            if number == WARM_UP + 2:
                torch.cuda.set_sync_debug_mode("error")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert number == 10


def test_samples_on_the_gpu_are_those_of_the_host(config, many):
    plain = config.changed({"sampling.augmentation": "medical"})
    batches = []
    for cache in ("ram", "device"):
        loaders = make_loaders(many, plain, ComputeSettings(cache=cache, num_workers=2), device=GPU)
        batches.append([[part.cpu() for part in batch] for batch in loaders.train])
    assert len(batches[0]) == 10
    for host, device in zip(*batches, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(host, device, strict=True))


def test_a_stopped_run_resumes_with_equal_order_and_weights(config, fit):
    """Exact with ``repeatable``, whose algorithms are deterministic."""
    changed = config.changed({"fit.repeatable": True, "fit.ema": 0.9})
    whole = fit(changed)
    broken = fit(changed, moments=3, save_minutes=0)
    assert broken.step == 3
    resumed = fit(changed, restore(broken.to_dict(), GPU))
    for mine, theirs in zip(resumed.history, whole.history, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)
    theirs = weights_of(whole)
    for name, value in weights_of(resumed).items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5)


def test_equal_runs_give_equal_weights_when_repeatable(config, fit):
    changed = config.changed({"fit.repeatable": True})
    first, second = weights_of(fit(changed)), weights_of(fit(changed))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu(config, fit, many):
    saved = fit(config, moments=1).to_dict()
    state = restore(saved, torch.device("cpu"))
    loaders = make_loaders(many, config, ComputeSettings(cache="ram", num_workers=0), device=torch.device("cpu"))
    assert len(list(epoch.fit(state, loaders))) == config.fit.epochs - 1


def large(config, precision="float32"):
    return config.changed(
        {
            "model": ModelSettings(encoder="resnet18", encoder_weights=None),
            "input.size": (128, 128),
            "fit.precision": precision,
            "sampling.batch_size": 64,
            "sampling.augmentation": "none",
            "fit.epochs": 1,
        }
    )


@pytest.fixture
def little_memory():
    """About 1 GiB of the GPU's memory, however large it is."""
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info(GPU)[1]
    yield lambda gigabytes: torch.cuda.set_per_process_memory_fraction(gigabytes * 2**30 / total, GPU)
    torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    torch.cuda.empty_cache()


def test_the_probe_finds_a_batch_that_fits(config, little_memory):
    changed = large(config)
    little_memory(1.5)
    state = start(changed, "", GPU)
    found = largest_batch(state.model, config_loss(changed), changed, GPU, max_batch_size=4096)
    assert 2 <= found < 4096
    little_memory(70.0)


def test_training_goes_on_with_parts_of_a_batch_where_memory_runs_out(config, fit, many, little_memory, caplog):
    import pandas as pd

    changed = large(config).changed({"input.size": (256, 256), "sampling.batch_size": 160})
    rows = pd.concat([many[many["split"] == "train"]] * 4 + [many[many["split"] == "val"]], ignore_index=True)
    loaders = make_loaders(rows, changed, ComputeSettings(cache="ram", num_workers=0), device=GPU)
    state = start(changed, "", GPU)
    little_memory(4.0)
    rows = [row for row in epoch.fit(state, loaders) if row]
    assert "memory ran out: continuing with" in caplog.text
    assert state.micro_batch < 160
    assert math.isfinite(rows[0]["train_loss"])


def test_auto_keeps_small_data_on_the_gpu_and_finds_a_batch(config, many):
    auto = config.changed({"sampling.batch_size": "auto"})
    resolved = resolve_auto_settings(auto, many, GPU)
    assert resolved.sampling.batch_size == 8  # 40 train images: at least four steps per epoch
    loaders = make_loaders(many, resolved, ComputeSettings(), device=GPU)
    batch = next(iter(loaders.train))
    assert all(part.device.type == "cuda" for part in batch)


def test_workers_feed_pinned_batches(config, many):
    loaders = make_loaders(many, config, ComputeSettings(cache="none", num_workers=2), device=GPU)
    for number in (0, 1):
        loaders.order.epoch = number
        batches = list(loaders.train)
        assert len(batches) == 10
        assert all(part.is_pinned() for part in batches[0])


def test_a_model_trained_on_a_gpu_predicts_there_as_on_a_cpu(config, many):
    changed = config.changed({"fit.epochs": 8, "sampling.batch_size": "auto", "fit.precision": "float32"})
    *_, end = train(many, changed, ComputeSettings())
    assert end.history["val_dice"].max() > 0.5
    rows = many[many["split"] == "val"].drop_duplicates("image_id")
    post = plain_masks(changed)
    tables = [
        predict_masks(rows, end.best, device=device, batch_size=2, postprocessing=post)
        for device in (GPU, torch.device("cpu"))
    ]
    for name in ("peak_box", "peak_disc"):
        assert tables[0][name].to_numpy() == pytest.approx(tables[1][name].to_numpy(), abs=0.02)  # TF32
    for name in ("mask_box", "mask_disc"):
        for row, (mine, theirs) in enumerate(zip(tables[0][name], tables[1][name], strict=True)):
            shape = tuple(tables[0].loc[row, ["height", "width"]])
            different = decode_rle(mine, shape, order="C") != decode_rle(theirs, shape, order="C")
            assert different.mean() < 0.01


def test_two_processes_train_one_model(tmp_path):
    """With nccl on two cards, with gloo on one: equal weights in both, close to those of one process."""
    script = Path(__file__).with_name("rank_on_gpu.py")
    command = [sys.executable, str(script)]
    ranks = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [rank.wait(timeout=150) for rank in ranks] == [0, 0]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
