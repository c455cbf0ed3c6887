"""The training loop: no files, one device-to-host copy an epoch. What it changes is a ``TrainState``."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seg_pipeline.segmentation.data.batch_mixing import Mixing, make_mixing
from seg_pipeline.segmentation.data.loaders import Loaders
from seg_pipeline.segmentation.losses import Loss, make_loss
from seg_pipeline.segmentation.metrics.overlap import Counts
from seg_pipeline.segmentation.settings.training import FitSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.epoch_metrics import Tally
from seg_pipeline.segmentation.training.processes import OutOfMemory, Processes
from seg_pipeline.segmentation.training.progress import Bar
from seg_pipeline.segmentation.training.schedules import make_schedule
from seg_pipeline.segmentation.training.state import TrainState

log = logging.getLogger(__name__)

STEPS_UNCHECKED = 50
"""On a GPU the loss is looked at so seldom, as each look waits for it; what went wrong is skipped at once."""


@dataclass
class Run:
    """What stays the same over the epochs of ``fit``."""

    state: TrainState
    loaders: Loaders
    processes: Processes
    loss_fn: Loss
    rate: Callable[[float], float]
    mixing: Mixing | None
    network: Any
    """The model, as it trains: compiled, or wrapped for several processes."""
    save_seconds: float

    def bar(self, split: str, title: str, tally: Tally) -> Bar:
        loader, order = getattr(self.loaders, split), self.loaders.order
        left = (len(order) - order.start) * order.batch_size if split == "train" else len(loader.dataset)
        return Bar(loader, title, left // self.processes.world, tally.means, hidden=self.processes.rank > 0)

    def is_due(self, seconds: float) -> bool:
        """Whether to save so long after the last time, the same in all processes; asks them only where one may."""
        return self.save_seconds < math.inf and self.processes.agreed(seconds) >= self.save_seconds

    def progress(self, watch: Stopwatch) -> float:
        """Share of the run that is done, the same in all processes."""
        progress = self.state.progress(len(self.loaders.order), self.state.spent + watch.seconds)
        return progress if self.state.config.fit.max_minutes is None else self.processes.agreed(progress)


def fit(state: TrainState, loaders: Loaders, *, save_minutes: float | None = None) -> Iterator[dict | None]:
    """Trains to the config's end. Yields the row that each epoch adds to ``state.history``.

    Yields None within an epoch when ``save_minutes`` have passed: time to save ``state``, which a later ``fit``
    continues to equal weights.

    Raises:
        TrainingFailed: a loss is not finite, or memory is too small for one image.
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


class Stopwatch:
    """Seconds since it was started at ``seconds``; can be set back to leave a pause out."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._began = time.perf_counter() - seconds


def prepare(state: TrainState, loaders: Loaders, save_seconds: float) -> Run:
    """The run's parts, built from its config."""
    config, processes = state.config, Processes()
    if processes.world > 1 and state.device.type == "cuda":
        state.model.net = nn.SyncBatchNorm.convert_sync_batchnorm(state.model.net)
    network = processes.wrap(state.model, state.device)
    return Run(
        state,
        loaders,
        processes,
        config_loss(config),
        make_schedule(config.optimizer.schedule, peak=1.0, warmup=config.optimizer.warmup),
        make_mixing(config.sampling.mix, share=config.sampling.mix_share, seed=config.seed),
        torch.compile(network) if config.fit.compile else network,
        save_seconds,
    )


def config_loss(config: TrainingConfig) -> Loss:
    """The loss of a config whose class weights are numbers."""
    loss = config.loss
    assert loss.class_weights not in ("auto", "balanced"), "`planning.settle` turns them into numbers"
    return make_loss(
        config.task,
        terms={str(name): weight for name, weight in loss.terms.items()} if loss.terms else None,
        class_weights=None if isinstance(loss.class_weights, str) else loss.class_weights,
        focal_gamma=loss.focal_gamma,
        tversky_beta=loss.tversky_beta,
        background=config.background,
    )


def train_one_epoch(run: Run, tally: Tally, watch: Stopwatch) -> Iterator[None]:
    """The rest of the present epoch. Yields where it is time to save."""
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


def train_step(run: Run, tally: Tally, images: Tensor, truth: Tensor, rate: float) -> None:
    """One update of the weights; skipped on the device where the loss or its gradient is not finite."""
    state, epoch = run.state, len(run.state.history)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * state.config.optimizer.learning_rate * group["factor"]
    images, truth = (part.to(state.device, non_blocking=True) for part in (images, truth))
    truths = [(1.0, truth)]
    if run.mixing:
        images, truths = run.mixing(images, truth, epoch=epoch, step=state.step)
    truths = [(weight, state.model.seen(one)) for weight, one in truths]
    loss, counts = backward(run, tally, images, truths)
    tally.add(loss, counts, len(images), sound=_update(state, loss))
    state.step, state.total_steps = state.step + 1, state.total_steps + 1
    if state.mean:
        state.mean.update(state.total_steps)
    if state.device.type == "cpu" or state.step % STEPS_UNCHECKED == 0:
        tally.refuse_unsound(run.loaders.order)


def backward(run: Run, tally: Tally, images: Tensor, truths: list[tuple[float, Tensor]]) -> tuple[Tensor, list[Counts]]:
    """Loss and gradients of a batch, part by part where memory does not hold it whole."""
    state = run.state
    while True:
        state.optimizer.zero_grad()
        torch.manual_seed(state.config.seed + 1_000_003 * state.total_steps)  # dropout, whatever came before
        try:
            return _backward_parts(run, tally, images, truths, state.micro_batch or len(images))
        except torch.OutOfMemoryError as error:
            at_once = min(state.micro_batch or len(images), len(images))
            if at_once == 1 or run.processes.world > 1:
                raise OutOfMemory(
                    f"memory ran out with {at_once} images of {tuple(images.shape[1:])} at once; set a smaller "
                    "`training.input.size`, `training.sampling.micro_batch_size` or model"
                ) from error
            state.micro_batch = (at_once + 1) // 2
            log.warning("memory ran out: from now on %d images at once, same batch", state.micro_batch)
        if state.device.type == "cuda":
            torch.cuda.empty_cache()


def _backward_parts(
    run: Run, tally: Tally, images: Tensor, truths: list[tuple[float, Tensor]], at_once: int
) -> tuple[Tensor, list[Counts]]:
    total, counts = torch.zeros((), device=run.state.device), []
    starts = range(0, len(images), at_once)
    for begin in starts:
        part = slice(begin, begin + at_once)
        waits = run.processes.world > 1 and begin != starts[-1]  # gradients are exchanged once a batch
        with run.network.no_sync() if waits else nullcontext():
            with tally.autocast():
                logits = run.network(images[part])
            losses = [weight * run.loss_fn(logits, truth[part]) for weight, truth in truths]
            loss = torch.stack(losses).sum() * (len(logits) / len(images))
            run.state.scaler.scale(loss).backward()
        total += loss.detach()
        counts.append(tally.count(logits.detach(), truths[0][1][part]))
    return total, counts


def _update(state: TrainState, loss: Tensor) -> Tensor:
    """Changes the weights, where loss and gradient are finite; whether they are, on the device."""
    state.scaler.unscale_(state.optimizer)
    largest = state.config.optimizer.clip_norm
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), math.inf if largest is None else largest)
    if state.scaler.is_enabled():  # skips gradients that are not finite itself, and lowers its scale
        state.scaler.step(state.optimizer)
        state.scaler.update()
        return loss.isfinite()
    # The fused optimisers skip their update on the device where this is 1, so that nothing has to wait for it.
    sound = (loss + norm).isfinite()
    state.optimizer.found_inf = (~sound).float()  # type: ignore[attr-defined]
    state.optimizer.step()
    return sound


@torch.inference_mode()
def validate(run: Run) -> dict:
    """Loss, Dice and pixel accuracy of the validation split at the network's input size; NaN where not due."""
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
    """A history row for the terminal."""
    of = f"/{fit.epochs}" if fit.max_minutes is None else ""
    validated = (
        f"validation loss {row['val_loss']:.4f}, Dice {row['val_dice']:.4f}, "
        f"pixel accuracy {row['val_pixel_accuracy']:.4f}"
        if not math.isnan(row["val_loss"])
        else f"Dice {row['train_dice']:.4f} in training, not validated"
    )
    return f"epoch {row['epoch']}{of}: loss {row['train_loss']:.4f}, {validated} ({row['seconds']:.1f} s)"
