import logging
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

from seg_pipeline.segmentation.settings.training import FitSettings, InputSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training import auto_settings, batch_size
from seg_pipeline.segmentation.training.batch_size import largest_batch, saved_tensor_bytes

CPU = torch.device("cpu")
RECIPE = TrainingConfig(
    task="multiclass",
    classes=("box", "disc"),
    input=InputSettings(size=(32, 64), channels="grey"),
    fit=FitSettings(precision="float32"),
)
IMAGE = 32 * 64 * 4
"""Bytes of one float32 plane."""


class Net(nn.Module):
    """Grey (B, 1, H, W) -> logits of two classes, by a 1 x 1 convolution of the square."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 1, bias=False)

    def forward(self, images):
        return self.convolution(images.float().square())

    def subsample(self, truth):
        return truth


def loss_fn(logits, truth):
    return logits.sum() + truth.sum()


def test_kept_bytes_by_hand():
    # The convolution keeps its input and its weight of 2 numbers. What comes before needs no gradient, and a
    # sum keeps nothing.
    assert saved_tensor_bytes(Net(), loss_fn, RECIPE, CPU, batch_size=1) == IMAGE + 8
    assert saved_tensor_bytes(Net(), loss_fn, RECIPE, CPU, batch_size=5) == 5 * IMAGE + 8


def test_tensors_kept_twice_count_once():
    class Twice(Net):
        def forward(self, images):
            logits = self.convolution(images.float())
            return logits * logits.transpose(0, 1).transpose(0, 1)  # both factors are kept: the same memory

    # input and weight of the convolution, its output of two planes
    assert saved_tensor_bytes(Twice(), loss_fn, RECIPE, CPU, batch_size=3) == 3 * 3 * IMAGE + 8


def test_truth_is_made_in_the_form_of_the_task():
    shapes = []

    def seeing(logits, truth):
        shapes.append((tuple(truth.shape), truth.dtype))
        return logits.sum()

    for config in (RECIPE, replace(RECIPE, task="multilabel")):
        saved_tensor_bytes(Net(), seeing, config, CPU, batch_size=3)
    assert shapes == [((3, 32, 64), torch.uint8), ((3, 2, 32, 64), torch.uint8)]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (16 * IMAGE + 8, 16),
        (16 * IMAGE + 7, 8),  # a byte less: the power of two below
        (31 * IMAGE + 8, 16),
        (1000 * IMAGE, 64),  # no more than `most`
        (0, 1),
    ],
)
def test_the_largest_power_of_two_that_fits(limit, expected):
    assert largest_batch(Net(), loss_fn, RECIPE, CPU, limit_bytes=limit) == expected


def test_half_of_the_free_memory_is_the_limit(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(batch_size, "free_ram", lambda: 2 * (4 * IMAGE + 8))
    assert largest_batch(Net(), loss_fn, RECIPE, CPU) == 4
    assert "a training step keeps 8 KiB per image; 32 KiB allow a batch of 4" in caplog.text


def test_a_batch_that_runs_out_of_memory_is_halved_until_it_does_not():
    tried = []

    class Small(Net):
        def forward(self, images):
            tried.append(len(images))
            if len(images) > 8:
                raise torch.OutOfMemoryError("no more")
            return super().forward(images)

    model = Small()
    assert batch_size._halve_until_it_fits(model, loss_fn, RECIPE, CPU, 32) == 8
    assert tried == [32, 16, 8]
    assert model.convolution.weight.grad is None


def test_memory_too_small_to_measure_a_step_still_gives_a_batch(monkeypatch):
    class Small(Net):
        def forward(self, images):
            if len(images) > 2:
                raise torch.OutOfMemoryError("no more")
            return super().forward(images)

    assert largest_batch(Small(), loss_fn, RECIPE, CPU) == 2
    assert largest_batch(Small(), loss_fn, RECIPE, CPU, max_batch_size=1) == 1


def test_the_optimisers_values_have_to_fit_too(monkeypatch):
    steps = []

    class Large(torch.optim.SGD):
        def step(self):
            steps.append(1)
            if len(steps) < 3:
                raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr(batch_size, "make_optimizer", lambda model, _: Large(model.parameters()))
    assert batch_size._halve_until_it_fits(Net(), loss_fn, RECIPE, CPU, 32) == 8


@pytest.mark.parametrize(
    ("kind", "num_images", "processes", "fitting", "expected"),
    [
        ("cuda", 4000, 1, 64, 64),
        ("cuda", 4000, 4, 64, 256),  # 64 on each GPU
        ("cuda", 4000, 4, 16, 64),
        ("cuda", 100, 2, 64, 16),  # at least four steps: 2 x 8
        ("cuda", 3, 2, 64, 2),
        ("cpu", 4000, 4, 64, 64),  # which share the memory
        ("cpu", 4000, 3, 16, 15),
    ],
)
def test_an_automatic_batch_fills_every_gpu(monkeypatch, kind, num_images, processes, fitting, expected):
    monkeypatch.setattr(auto_settings, "Segmenter", lambda *_, **__: nn.Identity())
    monkeypatch.setattr(nn.Module, "to", lambda self, _: self)
    monkeypatch.setattr(auto_settings, "config_loss", lambda _: None)
    monkeypatch.setattr(auto_settings, "largest_batch", lambda *_, max_batch_size: min(max_batch_size, fitting))
    assert auto_settings._batch_size(RECIPE, num_images, torch.device(kind), processes) == expected


@pytest.mark.parametrize(
    ("scaling", "batch", "rate"),
    [("sqrt", 64, 4e-3), ("linear", 64, 8e-3), ("none", 64, 2e-3), ("sqrt", 4, 1e-3), ("linear", 16, 2e-3)],
)
def test_an_automatic_batch_changes_the_rate_as_declared(config, scaling, batch, rate):
    """A rate of 2e-3 for 16 images."""
    changed = config.changed({"optimizer.learning_rate": 2e-3, "optimizer.rate_scaling": scaling})
    assert auto_settings.scaled_rate(changed, batch) == pytest.approx(rate)


def test_the_scaled_rate_is_recorded_with_the_batch(config, manifest, monkeypatch):
    monkeypatch.setattr(auto_settings, "_batch_size", lambda *_: 4)
    changed = config.changed({"sampling.batch_size": "auto", "optimizer.learning_rate": 2e-3})
    resolved = auto_settings.resolve_auto_settings(changed, manifest, torch.device("cpu"))
    assert (resolved.sampling.batch_size, resolved.optimizer.learning_rate) == (4, 1e-3)
    fixed = config.changed({"sampling.batch_size": 4, "optimizer.learning_rate": 2e-3})
    assert auto_settings.resolve_auto_settings(fixed, manifest, torch.device("cpu")).optimizer.learning_rate == 2e-3


def test_the_background_is_counted_where_every_class_is_annotated():
    """Two images of 4 x 5 and one of 2 x 2, whose second class is not annotated."""
    rows = pd.DataFrame(
        {
            "height": [4, 4, 2],
            "width": [5, 5, 2],
            "ignore": ["1 3", "", "1 1"],
            "mask_box": ["5 2", "", "2 1"],
            "mask_disc": ["", "1 6", "?"],
            "area_box": [2, 0, 1],
            "area_disc": [0, 6, 0],
        }
    )
    assert auto_settings.channel_pixels(rows, SimpleNamespace(background=True)) == [40 - 3 - 8, 3, 6]
    assert auto_settings.channel_pixels(rows, SimpleNamespace(background=False)) == [3, 6]
