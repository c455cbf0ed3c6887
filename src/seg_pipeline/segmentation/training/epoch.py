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
from seg_pipeline.segmentation.training.epoch_metrics import Tally
from seg_pipeline.segmentation.training.optimizers import largest_rate
from seg_pipeline.segmentation.training.processes import OutOfMemory
from seg_pipeline.segmentation.training.setup import Run, Stopwatch, prepare
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
    run = prepared(state, loaders, math.inf if save_minutes is None else 60 * save_minutes)
    while not state.finished:
        watch = Stopwatch(state.seconds, run.processes)
        tally = Tally(state, run.processes, state.partial)
        yield from train_one_epoch(run, tally, watch)
        refuse_unsound(run, tally)
        row = {"epoch": len(state.history) + 1, "learning_rate": largest_rate(state.optimizer)}
        row |= tally.row("train") | validate(run)
        state.add(row | {"seconds": watch.total()})
        state.finished |= state.progress(len(loaders.order), state.spent) >= 1
        if state.finished:
            state.refuse_untrained()
        yield state.history[-1]


def prepared(state: TrainState, loaders: Loaders, save_seconds: float) -> Run:
    """A run whose steps and validation are replayed as CUDA graphs where they can be.

    They cannot with several processes, with mixing, whose parts change from step to step, or with float16, whose loss
    scale the host looks after; nor with ``crop`` in validation, whose images have many sizes.
    """
    run = prepare(state, loaders, save_seconds)
    run.update, run.evaluate = partial(update_weights, run), partial(evaluate_batch, run)
    if state.device.type == "cuda" and run.processes.world == 1:
        if not run.mixing and not state.scaler.is_enabled():
            run.update = Replay(run.update, state.device)
        if state.config.input.resize_mode != "crop":
            run.evaluate = Replay(run.evaluate, state.device)
    return run


def train_one_epoch(run: Run, tally: Tally, watch: Stopwatch) -> Iterator[None]:
    """Trains the rest of the current epoch. Yields when it is time to save."""
    state, order = run.state, run.loaders.order
    order.epoch, order.start = len(state.history), state.step
    saved = watch.seconds
    state.model.train()
    with run.bar("train", f"epoch {order.epoch + 1}", tally) as batches:
        for batch in batches:
            train_step(run, tally, batch, run.rate(run.progress(watch)))
            watch.agree()
            progress = run.progress(watch)
            batches.show(progress, state.spent + watch.seconds)
            if progress >= 1:
                state.finished = True
                break
            if state.step < len(order) and run.is_due(watch.seconds - saved):
                refuse_unsound(run, tally)
                state.partial, state.seconds = tally.gathered(), watch.seconds
                yield
                watch.seconds = saved = state.seconds


def refuse_unsound(run: Run, tally: Tally) -> None:
    """Called before each save, which a resume would start from; waits for the device.

    Raises:
        TrainingFailed: a loss, gradient, weight or batch statistic was not finite.
    """
    tally.refuse_unsound(run.loaders.order)
    run.state.refuse_unsound()


@torch.inference_mode()
def validate(run: Run) -> dict:
    """Loss, Dice and pixel accuracy of the validation split at the network's input size; NaN if not due."""
    state, epochs = run.state, len(run.state.history) + 1
    fit = state.config.fit
    if epochs % fit.validate_every and epochs < fit.epochs and not state.finished:
        return dict.fromkeys(("val_loss", "val_dice", "val_pixel_accuracy"), math.nan)
    began = time.perf_counter()
    if state.mean:
        state.mean.copy_counters()
    run.processes.share(state.model, state.judged)
    state.judged.eval()
    tally = Tally(state, run.processes)
    with run.bar("val", "validation", tally) as batches:
        for images, truth in batches:
            loss, *counts = run.evaluate(images, truth)
            tally.add(loss, Counts(*counts), len(images))
    row = tally.row("val")
    state.validation_seconds = run.processes.agreed(time.perf_counter() - began)
    return row


def evaluate_batch(run: Run, images: Tensor, truth: Tensor) -> tuple[Tensor, ...]:
    """Loss and the fields of ``Counts`` of a validation batch."""
    images, truth = (part.to(run.state.device, non_blocking=True) for part in (images, truth))
    logits = whole_logits(run, images)
    return run.loss_fn(logits, truth), *run.count(logits, truth)


def whole_logits(run: Run, images: Tensor) -> Tensor:
    """Logits of a validation batch, computed in parts once memory did not hold it whole."""
    while True:
        at_once = min(run.validated_at_once or len(images), len(images))
        try:
            with run.autocast():
                logits = [run.state.judged(images[part]) for part in split_batch(len(images), at_once)]
            return logits[0] if len(logits) == 1 else torch.cat(logits)
        except torch.OutOfMemoryError as error:
            if is_recording(run.state.device):
                raise
            if at_once == 1:
                raise OutOfMemory(
                    f"memory ran out in the validation of an image of {tuple(images.shape[1:])}; set a smaller "
                    "`training.input.size`, `training.input.scale` or model"
                ) from error
            run.validated_at_once = (at_once + 1) // 2
            log.warning("memory ran out: validating %d images at a time, with equal scores", run.validated_at_once)
        if run.state.device.type == "cuda":
            torch.cuda.empty_cache()


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
