from types import SimpleNamespace

import joblib
import optuna
import pytest
import torch

from seg_pipeline.segmentation.search.proposals import _ask
from seg_pipeline.segmentation.search.workers import Workers, gpus_of_workers
from seg_pipeline.segmentation.settings.search import PoolSettings, TpeSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings


@pytest.mark.parametrize(
    ("gpus", "visible", "compute", "expected"),
    [
        (2, None, {}, ["0", "1", "0"]),
        (2, "5,GPU-7a", {}, ["5", "GPU-7a", "5"]),
        (4, None, {"devices": 2}, ["0,1", "2,3", "0,1"]),
        (3, None, {"devices": 2}, ["0,1", "2,0", "1,2"]),
        (2, None, {"device": "cuda:1"}, [None, None, None]),
        (2, None, {"device": "cpu"}, [None, None, None]),
        (0, None, {}, [None, None, None]),
    ],
)
def test_workers_take_the_gpus_in_turn(monkeypatch, gpus, visible, compute, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_of_workers(3, ComputeSettings(**compute)) == expected


def visible_gpus():
    import os

    return os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.slow
def test_a_worker_sees_its_gpu_alone_and_so_does_the_one_that_replaces_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    workers = Workers(PoolSettings(kind="processes", workers=2), ComputeSettings())
    assert workers.threads == max(1, joblib.cpu_count() // 2)
    worker = workers.acquire()
    gpu = worker.submit(visible_gpus).result(timeout=120)
    workers.release(worker, broken=True)
    seen = [workers.acquire().submit(visible_gpus).result(timeout=120) for _ in range(2)]
    workers.close()
    assert sorted(seen) == ["0", "1"]
    assert seen[0] == gpu  # idle workers are taken from the end


@pytest.mark.parametrize(("size", "liar"), [(1, False), (3, True)])
def test_proposals_to_several_workers_keep_apart(size, liar):
    study = optuna.create_study()
    runner = SimpleNamespace(workers=SimpleNamespace(size=size), config=SimpleNamespace(seed=3))
    _ask(study, 1, runner, TpeSettings(), {}, {})
    assert study.sampler._constant_liar is liar
