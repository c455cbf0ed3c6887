"""Two processes on the CPU against one, with the same global batches."""

import gc
import json
import os
import signal
import socket
import time
import weakref
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from seg_pipeline.segmentation.data.loaders import make_loaders
from seg_pipeline.segmentation.data.sample_decoding import Decoder
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.storage.atomic import SCRATCH
from seg_pipeline.segmentation.training import distributed, epoch
from seg_pipeline.segmentation.training.processes import TrainingFailed
from seg_pipeline.segmentation.training.run import train

CPU = torch.device("cpu")
TWO = ComputeSettings(device="cpu", devices=2, cache="none")


@pytest.fixture(scope="session")
def comparable(config):
    """Without batch norm's statistics of a part, a run is the same on one process and on two."""
    return config.changed(
        {
            "optimizer.freeze_encoder": True,
            "model.decoder_norm": "instance",
            "optimizer.name": "sgd",  # AdamW divides by numbers near 0, which makes much of the last digits
            "sampling.augmentation": "none",
            "fit.epochs": 12,  # still training when the kill comes
        }
    )


@pytest.fixture(scope="session")
def alone(manifest, comparable):
    *_, last = train(manifest, comparable, ComputeSettings(device="cpu", cache="none"))
    return last


@pytest.mark.slow
def test_two_processes_train_the_model_of_one_although_one_of_them_is_killed(manifest, comparable, alone):
    """After the kill both start again from the newest state."""
    moments = train(manifest, comparable, TWO)
    epochs = [len(next(moments).history)]
    (server,) = [child for child in psutil.Process().children() if "forkserver" in " ".join(child.cmdline())]
    trainers = server.children()
    assert len(trainers) == 2
    trainers[1].kill()
    for together in moments:
        epochs.append(len(together.history))
    assert epochs == sorted(epochs)
    assert_same_training(together, alone)


def assert_same_training(together, alone):
    names = ["epoch", "learning_rate", "train_loss", "val_loss", "train_dice", "val_dice", "val_pixel_accuracy"]
    for name in names:
        torch.testing.assert_close(
            torch.tensor(together.history[name].to_numpy()),
            torch.tensor(alone.history[name].to_numpy()),
            rtol=1e-4,  # sums run in another order
            atol=1e-5,
        )
    one, other = (end.best["models"][0]["model"] for end in (alone, together))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_two_machines_train_the_model_of_one_although_one_of_them_fails(manifest, comparable, alone, warm, tmp_path):
    """The second machine is `seg-pipeline join` in another process; after a kill, another one takes its place."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    shared = tmp_path / "shared"
    shared.mkdir()  # before the second machine looks for it
    compute = replace(TWO, devices=1, nodes=2, endpoint=endpoint, shared_folder=str(shared))
    join = ("join", shared, "--idle", "30")
    first = warm.start(*join, program="seg-pipeline", cwd=str(tmp_path))
    moments = train(manifest, comparable, compute)
    epochs = [len(next(moments).history)]
    os.kill(first.process, signal.SIGKILL)
    second = warm.start(*join, program="seg-pipeline", cwd=str(tmp_path))
    for together in moments:
        epochs.append(len(together.history))
    os.kill(second.process, signal.SIGKILL)
    assert (first.wait(), second.wait()) == (-signal.SIGKILL, -signal.SIGKILL)
    assert epochs == sorted(epochs)
    assert_same_training(together, alone)
    assert not list(shared.iterdir())


@pytest.mark.fault(
    scenario="several nodes without a meeting place, or of several versions",
    command="training, seg-pipeline join",
    outcome="stops and names the setting or the versions",
)
def test_machines_that_cannot_meet_say_why(manifest, config, tmp_path, monkeypatch):
    for name in ("PET_MASTER_ADDR", "PET_MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PET_NNODES", "2")
    compute = replace(TWO, devices=1)
    assert compute.processes == 2
    with pytest.raises(ValueError, match=r"2 machines need `training\.compute\.endpoint: HOST:PORT` of this"):
        next(distributed.train_distributed(manifest, config, compute, None, None))
    monkeypatch.setenv("PET_MASTER_ADDR", "node0")
    monkeypatch.setenv("PET_MASTER_PORT", "29400")
    assert distributed._rendezvous(replace(compute, shared_folder=str(tmp_path))) == (str(tmp_path), "node0:29400")
    with pytest.raises(ValueError, match=r"2 machines need `training\.compute\.shared_folder: FOLDER`, which"):
        next(distributed.train_distributed(manifest, config, compute, None, None))
    monkeypatch.setenv("PET_NNODES", "1:4")
    with pytest.raises(ValueError, match=r"PET_NNODES is '1:4', expected one number; set `training\.compute"):
        compute.processes  # noqa: B018

    job = tmp_path / f"{SCRATCH}x" / "job.json"
    job.parent.mkdir()
    job.write_text('{"version": "0.0.9"}')
    with pytest.raises(ValueError, match=r"leading machine runs seg_pipeline 0\.0\.9 and this one 0\.1\.0; install"):
        distributed.join_jobs(tmp_path, cache=tmp_path, idle=1)
    (job.parent / distributed.STOP).touch()
    assert distributed.join_jobs(tmp_path, cache=tmp_path, idle=0.2) == []


@pytest.mark.slow
def test_a_failure_says_what_one_process_would_have_said(manifest, config):
    wild = config.changed({"loss.terms": {"bce": 1e39}})  # more than float32 holds
    began = time.monotonic()
    with pytest.raises(TrainingFailed, match="is not finite, on the images"):
        list(train(manifest, wild, replace(TWO, restarts=0)))
    assert time.monotonic() - began < 120


@pytest.mark.parametrize("mark", [distributed.STOP, distributed.FAILURE])
def test_a_process_that_starts_again_in_vain_ends_at_once(mark, tmp_path):
    (tmp_path / mark).touch()
    distributed._run_worker(str(tmp_path), cache=None)  # without job.json, environment and parent


def test_images_are_decoded_once_for_all_processes(manifest, config, tmp_path, monkeypatch):
    """Before the processes start; each of them then finds all images decoded."""
    compute = replace(TWO, cache="auto")

    def states(folder, _):
        job = json.loads((folder / "job.json").read_text())
        monkeypatch.setattr(Decoder, "image", lambda *_, **__: pytest.fail("a process decodes an image again"))
        for rank in range(2):
            parts = make_loaders(
                *(manifest, config, compute), device=CPU, cache_folder=Path(job["cache"]), rank=rank, world=2
            )
            yield len(list(parts.train))

    monkeypatch.setattr(distributed, "_yield_states", states)
    assert list(distributed.train_distributed(manifest, config, compute, None, tmp_path)) == [2, 2]
    assert [len(one.name) for one in tmp_path.iterdir()] == [64]
    monkeypatch.undo()
    monkeypatch.setattr(distributed, "_yield_states", states)
    assert list(distributed.train_distributed(manifest, config, compute, None, None)) == [2, 2]


def test_a_process_trains_without_the_manifest_if_all_images_are_decoded(manifest, config, tmp_path, monkeypatch):
    """Nor does it hash it: all masks of a million images would be in the memory of each process twice."""
    compute = replace(TWO, cache="auto")
    read, tables, left = distributed.read_table, [], []

    def reading(path):
        table = read(path)
        tables.append(weakref.ref(table))
        return table

    def fit(*_, **__):
        gc.collect()
        left.append([one() is None for one in tables])
        return iter(())

    def states(folder, _):
        monkeypatch.setattr(distributed, "read_table", reading)
        monkeypatch.setattr(distributed, "data_hash", lambda _: pytest.fail("a process hashes the manifest"))
        distributed._train_in_worker(folder, json.loads((folder / "job.json").read_text()), CPU)
        return iter(())

    monkeypatch.setattr(distributed, "_yield_states", states)
    monkeypatch.setattr(epoch, "fit", fit)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    assert list(distributed.train_distributed(manifest, config, compute, None, tmp_path)) == []
    assert left == [[True]]


def test_a_batch_that_cannot_be_shared_is_refused(manifest, config):
    with pytest.raises(ValueError, match="`batch_size: 3` cannot be divided equally among 2 processes"):
        list(train(manifest, config.changed({"sampling.batch_size": 3}), TWO))
