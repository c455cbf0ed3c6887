"""The range test: one training whose learning rate rises at every step shows where a grid of rates belongs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.data.loaders import make_loaders
from seg_pipeline.segmentation.manifest.table import data_hash
from seg_pipeline.segmentation.search.best_point import RATE
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.auto_settings import settle
from seg_pipeline.segmentation.training.devices import pick_device
from seg_pipeline.segmentation.training.epoch import prepare, train_step
from seg_pipeline.segmentation.training.epoch_metrics import Tally
from seg_pipeline.segmentation.training.processes import TrainingFailed
from seg_pipeline.segmentation.training.state import start

LOWEST, HIGHEST = 1e-6, 1.0
MEMORY = 0.9
"""Weight of the past in the smoothed loss."""
TOO_MUCH = 4.0
"""Times the lowest smoothed loss, at which the test ends."""


def range_test(
    manifest: pd.DataFrame, config: TrainingConfig, compute: ComputeSettings, *, steps: int, cache_folder: Path | None
) -> pd.DataFrame:
    """A row a step: step (from 1), learning_rate, loss and smoothed (its running mean, without bias to the start).

    The rate rises from ``LOWEST`` to ``HIGHEST`` by equal factors. The test ends early where the loss is ``TOO_MUCH``
    or no number. Source: Smith 2015 (arXiv:1506.01186).
    """
    device = pick_device(compute.device)
    settled = settle(config, manifest, device)
    state = start(settled, data_hash(manifest), device)
    loaders = make_loaders(manifest, settled, compute, device=device, cache_folder=cache_folder)
    run = prepare(state, loaders, math.inf)
    tally = Tally(state, run.loss_fn, run.processes)
    rows: list[dict] = []
    mean = 0.0
    state.model.train()
    while len(rows) < steps:
        loaders.order.epoch = len(rows) // len(loaders.order)
        for images, truth in loaders.train:
            step, before = len(rows) + 1, tally.sums.clone()
            rate = LOWEST * (HIGHEST / LOWEST) ** ((step - 1) / (steps - 1))
            try:
                train_step(run, tally, images, truth, rate / settled.optimizer.learning_rate)
            except TrainingFailed:
                return pd.DataFrame(rows)
            loss = float((tally.sums - before)[0] / len(images))
            mean = MEMORY * mean + (1 - MEMORY) * loss
            smoothed = mean / (1 - MEMORY**step)
            rows.append({"step": step, "learning_rate": rate, "loss": loss, "smoothed": smoothed})
            if len(rows) == steps or smoothed > TOO_MUCH * min(row["smoothed"] for row in rows):
                return pd.DataFrame(rows)
    return pd.DataFrame(rows)


def suggested_rate(tested: pd.DataFrame) -> float:
    """The middle, step by step, of the longest fall of the smoothed loss, of two digits; as fastai's "valley"."""
    falling = _longest_fall(tested["smoothed"].tolist())
    return float(f"{tested['learning_rate'].iloc[falling[len(falling) // 2]]:.2g}")


def _longest_fall(values: list[float]) -> list[int]:
    """Places of the longest falling subsequence, the first of equals."""
    length, before = [1] * len(values), [-1] * len(values)
    for here, value in enumerate(values):
        for there in range(here):
            if values[there] > value and length[there] >= length[here]:
                length[here], before[here] = length[there] + 1, there
    place = length.index(max(length))
    places = []
    while place >= 0:
        places.append(place)
        place = before[place]
    return places[::-1]


def as_trials(tested: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The rows as of a trial 0: epoch is the step, train_loss the loss, val_loss the smoothed loss."""
    about: dict[str, Any] = {
        "trial": 0,
        "step": "range_test",
        "repeat": 0,
        "seed": seed,
        "state": "complete",
        "reason": "",
    }
    rows = {
        RATE: tested["learning_rate"],
        "epoch": tested["step"],
        "learning_rate": tested["learning_rate"],
        "train_loss": tested["loss"],
        "val_loss": tested["smoothed"],
    }
    blank = dict.fromkeys(("train_dice", "train_pixel_accuracy", "val_dice", "val_pixel_accuracy", "seconds"), math.nan)
    return pd.DataFrame({**rows, **blank}).assign(**about)
