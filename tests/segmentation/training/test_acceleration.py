import logging
from contextlib import contextmanager

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from seg_pipeline.segmentation.training import acceleration, epoch, setup, step
from seg_pipeline.segmentation.training.acceleration import Compiled, Replay, worth_compiling
from seg_pipeline.segmentation.training.devices import set_backends
from seg_pipeline.segmentation.training.optimizers import largest_rate, make_optimizer, place_learning_rates, set_rate
from seg_pipeline.segmentation.training.state import start

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


# torch.compile


@pytest.mark.parametrize(
    ("changes", "device", "images", "compiles"),
    [
        ({}, GPU, 10_000, False),  # 20 epochs of 10,000 images of 32 x 64 pixels are 0.4e9
        ({}, GPU, 2_000_000, True),
        ({}, CPU, 2_000_000, False),
        ({"fit.compile": True}, CPU, 10, True),
        ({"fit.compile": False}, GPU, 1_000_000, False),
        ({"fit.max_minutes": 5.0}, GPU, 2_000_000, False),
        ({"fit.max_minutes": 20.0}, GPU, 2_000_000, True),
    ],
)
def test_auto_compiles_long_runs_on_a_gpu(config, changes, device, images, compiles):
    config = config.changed({"fit.epochs": 20, "fit.compile": "auto", **changes})
    assert worth_compiling(config, device, images) is compiles


def test_what_cannot_be_compiled_runs_as_it_is(config, monkeypatch, caplog):
    """The step is repeated: the weights are those of a run without torch.compile."""

    def refused(*_):
        raise BackendCompilerFailed("?", RuntimeError("no compiler"), None)

    monkeypatch.setattr(torch, "compile", lambda _: refused)
    images, truth = torch.full((4, 3, 32, 64), 90, dtype=torch.uint8), torch.ones(4, 2, 32, 64, dtype=torch.uint8)
    weights = []
    for compile_it in (True, False):
        state = start(config.changed({"fit.compile": compile_it}), "", CPU)
        run = epoch.prepare_run(state, Loaders(), 1.0)
        step.update_weights(run, images, truth)
        weights.append(list(state.model.parameters()))
        assert not run.compiled.enabled
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    [record] = caplog.records
    assert record.getMessage() == (
        "the network cannot be compiled; training continues uncompiled (backend='?' raised: RuntimeError: no compiler)"
    )


class Order:
    batch_size = 4

    def __len__(self):
        return 1


class Loaders:
    """Of four images."""

    augmentation, order = None, Order()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_a_step_is_one_graph_for_the_compiler(config, task):
    """Network, loss and counts without a break, of which each costs a launch and hides a fusion."""
    terms = {"bce" if task == "multilabel" else "ce": 1.0, "dice": 1.0, "focal": 1.0, "tversky": 1.0}
    background = {"background": True} if task == "multiclass" else {}
    weights = (1.0, 2.0, 3.0)[: 2 + (task == "multiclass")]
    changed = config.changed({"loss.class_weights": "none", "loss.terms": None}).changed({"task": task, **background})
    changed = changed.changed({"loss.terms": terms, "loss.class_weights": weights})
    state = start(changed, "", CPU)
    run = epoch.prepare_run(state, Loaders(), 1.0)
    state.model.train()
    truth = torch.zeros(4, 32, 64, dtype=torch.uint8)
    truth = truth[:, None].repeat(1, 2, 1, 1) if task == "multilabel" else truth
    images = torch.zeros(4, 3, 32, 64, dtype=torch.uint8)
    explained = torch._dynamo.explain(run.forward)(images, [(1.0, truth)], [None])
    assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained.break_reasons


# CUDA graphs, with a graph that records calls


class Graph:
    """As torch.cuda.CUDAGraph: ``replay`` repeats on the same tensors what was called while it was recorded."""

    def replay(self):
        for output, value in zip(self.outputs, self.function(*self.inputs), strict=True):
            output.copy_(value)


@pytest.fixture
def graphs(monkeypatch):
    """Graphs on the CPU; each records the next call of ``function``."""
    made = []

    @contextmanager
    def recording(graph):
        made.append(graph)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    return made


def recorded(graphs, calls):
    """A function of two tensors, and its calls."""

    def function(one, other):
        calls.append((one, other))
        result = (one + other, (one * other).sum())
        if len(graphs) == 1 and not hasattr(graphs[0], "function"):
            graph = graphs[0]
            graph.inputs, graph.outputs = (one, other), result
            graph.function = lambda one, other: (one + other, (one * other).sum())
        return result

    return function


def test_from_the_fourth_call_on_a_graph_is_replayed(graphs):
    calls = []
    replay = Replay(recorded(graphs, calls), CPU)
    results = [replay(torch.full((2,), float(number)), torch.ones(2)) for number in range(6)]
    assert len(calls) == 4  # three to warm up, and the one that is recorded
    assert [result[0].tolist() for result in results] == [[number + 1.0] * 2 for number in range(6)]
    assert [result[1].item() for result in results] == [2.0 * number for number in range(6)]  # not overwritten
    assert len(graphs) == 1


def test_other_shapes_are_not_replayed(graphs):
    calls = []
    replay = Replay(recorded(graphs, calls), CPU)
    for number in range(5):
        replay(torch.ones(2), torch.ones(2))
        total, _ = replay(torch.ones(3), torch.full((3,), float(number)))
        assert total.tolist() == [1.0 + number] * 3
    assert len(calls) == 4 + 5


def test_what_cannot_be_recorded_is_launched(graphs, caplog):
    def refused(values):
        if graphs:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return (values + 1,)

    replay = Replay(refused, CPU)
    for _ in range(3):
        replay(torch.ones(1))
    with pytest.raises(RuntimeError):  # this function refuses ever after, unlike a step
        replay(torch.ones(1))
    assert caplog.messages == [
        "the step cannot be recorded as a CUDA graph; training continues without one "
        "(operation not permitted when stream is capturing)"
    ]


@pytest.mark.parametrize(
    ("changes", "replayed"),
    [
        ({}, (True, True)),
        ({"sampling.mix": "cutmix", "sampling.mix_share": 0.5}, (False, True)),
        ({"fit.precision": "float16"}, (False, True)),
        ({"input.resize_mode": "crop"}, (True, False)),
    ],
)
def test_steps_and_validation_of_fixed_shapes_are_replayed(config, monkeypatch, changes, replayed):
    changed = config.changed({"fit.precision": "bfloat16", **changes})
    state = start(changed.changed({"fit.precision": "float32"}), "", CPU)
    state.config, state.device = changed, GPU
    state.scaler = torch.amp.GradScaler("cpu", enabled=changed.fit.precision == "float16")
    monkeypatch.setattr(setup, "set_backends", lambda *_: None)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)  # the example, which there is no GPU for
    run = epoch.prepare_run(state, Loaders(), 1.0)
    assert (isinstance(run.update, Replay), isinstance(run.evaluate, Replay)) == replayed


# Settings of torch


def test_backends_are_as_the_settings_say(config, monkeypatch):
    said = {}
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda value: said.update(matmul=value))
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda value: said.update(deterministic=value))
    for name in ("benchmark", "deterministic", "allow_tf32"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn = torch.backends.cudnn

    set_backends(config, CPU)
    assert said == {}
    set_backends(config, GPU)
    assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == (True, False, True)
    assert said == {"matmul": "high", "deterministic": False}
    set_backends(config.changed({"fit.repeatable": True, "fit.tf32": False}), GPU)
    assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == (False, True, False)
    assert said == {"matmul": "highest", "deterministic": True}
    set_backends(config.changed({"input.resize_mode": "crop"}), GPU)  # whole images have many sizes
    assert cudnn.benchmark is False
    set_backends(config.changed({"input.resize_mode": "crop", "fit.time_convolutions": True}), GPU)
    assert cudnn.benchmark is True


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_rates_are_numbers_on_a_cpu_and_tensors_on_a_gpu(config, name):
    settings = config.changed({"optimizer.name": name, "optimizer.encoder_rate": 0.1}).optimizer
    model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "decoder": torch.nn.Linear(2, 2)})
    optimizer = make_optimizer(model, settings)
    set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.05, 0.5, 0.5]
    assert largest_rate(optimizer) == 0.5
    with torch._subclasses.FakeTensorMode():
        there = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2, device="cuda")})
        optimizer = make_optimizer(there, settings)
        for group in optimizer.param_groups:
            assert group["lr"].device.type == "cuda"
            assert group.get("capturable", True)


def test_a_state_of_a_gpu_has_numbers_again_on_a_cpu(config):
    state = start(config, "", CPU)
    for group in state.optimizer.param_groups:
        group["lr"], group["capturable"] = torch.tensor(0.25), True
    place_learning_rates(state.optimizer)
    assert [(group["lr"], group["capturable"]) for group in state.optimizer.param_groups] == [(0.25, False)] * 2
    assert acceleration.is_recording(CPU) is False


def test_compiled_is_off_by_default_here(caplog):
    caplog.set_level(logging.INFO)
    assert Compiled(enabled=False)(lambda value: value + 1, 2) == 3
    assert caplog.messages == []
