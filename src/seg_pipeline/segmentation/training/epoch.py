"""The training loop: epochs of steps, each followed by a validation.

It writes no files; what it changes is a ``TrainState``. It copies one small tensor from the device per epoch.
"""

import logging
import math
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from seg_pipeline.segmentation.data.loaders import Loaders
from seg_pipeline.segmentation.metrics.overlap import Counts
from seg_pipeline.segmentation.settings.training import FitSettings
from seg_pipeline.segmentation.training.acceleration import Replay, is_recording
from seg_pipeline.segmentation.training.epoch_metrics import EpochMetrics
from seg_pipeline.segmentation.training.optimizers import largest_rate
from seg_pipeline.segmentation.training.processes import OutOfMemory
from seg_pipeline.segmentation.training.setup import Run, Stopwatch, build_run
from seg_pipeline.segmentation.training.state import TrainState
from seg_pipeline.segmentation.training.step import split_batch, train_step, update_weights

log = logging.getLogger(__name__)


def fit(state: TrainState, loaders: Loaders, *, save_minutes: float | None = None) -> Iterator[dict | None]:
    """Trains to the end of the configuration. Yields the row that each epoch adds to ``state.history``.

    Yields None within an epoch when ``save_minutes`` have passed: it is time to save ``state``, from which a later
    ``fit`` ends with equal weights.

    Raises:
        TrainingFailed: a loss is not finite, or memory is too small for a single image.
    """
    run = prepare_run(state, loaders, math.inf if save_minutes is None else 60 * save_minutes)
    while not state.finished:
        stopwatch = Stopwatch(state.seconds, run.processes)
        metrics = EpochMetrics(state, run.processes, state.partial)
        yield from train_one_epoch(run, metrics, stopwatch)
        check_finite(run, metrics)
        row = {"epoch": len(state.history) + 1, "learning_rate": largest_rate(state.optimizer)}
        row |= metrics.row("train") | validate(run)
        state.add(row | {"seconds": stopwatch.total()})
        state.finished |= state.progress(len(loaders.order), state.elapsed) >= 1
        if state.finished:
            state.check_trained()
        yield state.history[-1]


def prepare_run(state: TrainState, loaders: Loaders, save_seconds: float) -> Run:
    """Build a run; on a GPU its steps and validation are replayed as CUDA graphs where possible.

    Steps cannot be with several processes, with mixing (its parts change from step to step) or with float16 (the host
    adjusts its loss scale), and validation cannot with ``crop``, whose images have many sizes.
    """
    run = build_run(state, loaders, save_seconds)
    run.update, run.evaluate = partial(update_weights, run), partial(evaluate_batch, run)
    if state.device.type == "cuda" and run.processes.world == 1:
        if not run.mixing and not state.scaler.is_enabled():
            run.update = Replay(run.update, state.device)
        if state.config.input.resize_mode != "crop":
            run.evaluate = Replay(run.evaluate, state.device)
    return run


def train_one_epoch(run: Run, metrics: EpochMetrics, stopwatch: Stopwatch) -> Iterator[None]:
    """Trains the rest of the current epoch. Yields when it is time to save."""
    state, order = run.state, run.loaders.order
    order.epoch, order.start = len(state.history), state.step
    last_save = stopwatch.seconds
    state.model.train()
    with run.bar("train", f"epoch {order.epoch + 1}", metrics) as batches:
        for batch in batches:
            train_step(run, metrics, batch, run.rate(run.progress(stopwatch)))
            stopwatch.synchronise()
            progress = run.progress(stopwatch)
            batches.show(progress, state.elapsed + stopwatch.seconds)
            if progress >= 1:
                state.finished = True
                break
            if state.step < len(order) and run.should_save(stopwatch.seconds - last_save):
                check_finite(run, metrics)
                state.partial, state.seconds = metrics.sum_over_processes(), stopwatch.seconds
                yield
                stopwatch.seconds = last_save = state.seconds


def check_finite(run: Run, metrics: EpochMetrics) -> None:
    """Check the run before each save, from which it may be resumed; waits for the device.

    Raises:
        TrainingFailed: a loss, gradient, weight or batch statistic was not finite.
    """
    metrics.check_finite(run.loaders.order)
    run.state.check_finite()


@torch.inference_mode()
def validate(run: Run) -> dict:
    """Loss, Dice and pixel accuracy of the validation split at the network's input size; NaN if not due."""
    state, epoch = run.state, len(run.state.history) + 1
    fit = state.config.fit
    if epoch % fit.validate_every and epoch < fit.epochs and not state.finished:
        return dict.fromkeys(("val_loss", "val_dice", "val_pixel_accuracy"), math.nan)
    started = time.perf_counter()
    if state.mean:
        state.mean.copy_counters()
    run.processes.broadcast_buffers(state.model, state.eval_model)
    state.eval_model.eval()
    metrics = EpochMetrics(state, run.processes)
    with run.bar("val", "validation", metrics) as batches:
        for images, truth in batches:
            loss, *counts = run.evaluate(images, truth)
            metrics.add(loss, Counts(*counts), len(images))
    row = metrics.row("val")
    state.validation_seconds = run.processes.broadcast(time.perf_counter() - started)
    return row


def evaluate_batch(run: Run, images: Tensor, truth: Tensor) -> tuple[Tensor, ...]:
    """Loss and the fields of ``Counts`` of a validation batch."""
    images, truth = (part.to(run.state.device, non_blocking=True) for part in (images, truth))
    logits = validation_logits(run, images)
    return run.loss_fn(logits, truth), *run.count(logits, truth)


def validation_logits(run: Run, images: Tensor) -> Tensor:
    """Logits of a validation batch, computed in parts after memory once ran out."""
    while True:
        at_once = min(run.validation_micro_batch or len(images), len(images))
        try:
            with run.autocast():
                logits = [run.state.eval_model(images[part]) for part in split_batch(len(images), at_once)]
            return logits[0] if len(logits) == 1 else torch.cat(logits)
        except torch.OutOfMemoryError as error:
            if is_recording(run.state.device):
                raise
            if at_once == 1:
                raise OutOfMemory(
                    f"memory ran out while validating an image of {tuple(images.shape[1:])}; set a smaller "
                    "`training.input.size`, `training.input.scale` or model"
                ) from error
            run.validation_micro_batch = (at_once + 1) // 2
            log.warning("memory ran out: validating %d images at a time, with equal scores", run.validation_micro_batch)
        if run.state.device.type == "cuda":
            torch.cuda.empty_cache()


def format_row(row: dict, fit: FitSettings) -> str:
    """One history row as a line for the terminal."""
    total = f"/{fit.epochs}" if fit.max_minutes is None else ""
    validation = (
        f"validation loss {row['val_loss']:.4f}, Dice {row['val_dice']:.4f}, "
        f"pixel accuracy {row['val_pixel_accuracy']:.4f}"
        if not math.isnan(row["val_loss"])
        else f"Dice {row['train_dice']:.4f} in training, not validated"
    )
    return f"epoch {row['epoch']}{total}: loss {row['train_loss']:.4f}, {validation} ({row['seconds']:.1f} s)"
