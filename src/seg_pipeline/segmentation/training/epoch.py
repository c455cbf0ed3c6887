"""The training loop: epochs of steps, each followed by a validation.

It writes no files; what it changes is a ``TrainState``. It copies one small tensor from the device per epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch

from seg_pipeline.segmentation.data.loaders import Loaders
from seg_pipeline.segmentation.settings.training import FitSettings
from seg_pipeline.segmentation.training.epoch_metrics import Tally
from seg_pipeline.segmentation.training.setup import Run, Stopwatch, prepare
from seg_pipeline.segmentation.training.state import TrainState
from seg_pipeline.segmentation.training.step import train_step


def fit(state: TrainState, loaders: Loaders, *, save_minutes: float | None = None) -> Iterator[dict | None]:
    """Trains to the end of the configuration. Yields the row that each epoch adds to ``state.history``.

    Yields None within an epoch when ``save_minutes`` have passed: it is time to save ``state``, from which a later
    ``fit`` ends with equal weights.

    Raises:
        TrainingFailed: a loss is not finite, or memory is too small for a single image.
    """
    run = prepare(state, loaders, math.inf if save_minutes is None else 60 * save_minutes)
    while not state.finished:
        watch = Stopwatch(state.seconds)
        tally = Tally(state, run.loss_fn, run.processes, state.partial)
        yield from train_one_epoch(run, tally, watch)
        tally.refuse_unsound(loaders.order)
        row = {"epoch": len(state.history) + 1, "learning_rate": max(g["lr"] for g in state.optimizer.param_groups)}
        row |= tally.row("train") | validate(run)
        state.add(row | {"seconds": run.processes.agreed(watch.seconds)})
        state.finished |= state.progress(len(loaders.order), state.spent) >= 1
        yield state.history[-1]


def train_one_epoch(run: Run, tally: Tally, watch: Stopwatch) -> Iterator[None]:
    """Trains the rest of the current epoch. Yields when it is time to save."""
    state, order = run.state, run.loaders.order
    order.epoch, order.start = len(state.history), state.step
    saved = watch.seconds
    state.model.train()
    with run.bar("train", f"epoch {order.epoch + 1}", tally) as batches:
        for images, truth in batches:
            train_step(run, tally, images, truth, run.rate(run.progress(watch)))
            progress = run.progress(watch)
            batches.show(progress, state.spent + watch.seconds)
            if progress >= 1:
                state.finished = True
                break
            if state.step < len(order) and run.is_due(watch.seconds - saved):
                state.partial, state.seconds = tally.gathered(), watch.seconds
                yield
                watch.seconds = saved = state.seconds


@torch.inference_mode()
def validate(run: Run) -> dict:
    """Loss, Dice and pixel accuracy of the validation split at the network's input size; NaN if not due."""
    state, epochs = run.state, len(run.state.history) + 1
    fit = state.config.fit
    if epochs % fit.validate_every and epochs < fit.epochs and not state.finished:
        return dict.fromkeys(("val_loss", "val_dice", "val_pixel_accuracy"), math.nan)
    began = time.perf_counter()
    run.processes.share(state.model, state.judged)
    state.judged.eval()
    tally = Tally(state, run.loss_fn, run.processes)
    with run.bar("val", "validation", tally) as batches:
        for batch in batches:
            images, truth = (part.to(state.device, non_blocking=True) for part in batch)
            with tally.autocast():
                logits = state.judged(images)
            tally.add(run.loss_fn(logits, truth), [tally.count(logits, truth)], len(images))
    row = tally.row("val")
    state.validation_seconds = run.processes.agreed(time.perf_counter() - began)
    return row


def line(row: dict, fit: FitSettings) -> str:
    """One history row as a line for the terminal."""
    of = f"/{fit.epochs}" if fit.max_minutes is None else ""
    validated = (
        f"validation loss {row['val_loss']:.4f}, Dice {row['val_dice']:.4f}, "
        f"pixel accuracy {row['val_pixel_accuracy']:.4f}"
        if not math.isnan(row["val_loss"])
        else f"Dice {row['train_dice']:.4f} in training, not validated"
    )
    return f"epoch {row['epoch']}{of}: loss {row['train_loss']:.4f}, {validated} ({row['seconds']:.1f} s)"
