"""One training step: forward, backward and the update of the weights.

A step never waits for the device: whether a loss is finite is decided there, and the host looks at it only now and
then. This is the part that a CUDA graph could capture.
"""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from seg_pipeline.segmentation.metrics.overlap import Counts
from seg_pipeline.segmentation.training.epoch_metrics import Tally
from seg_pipeline.segmentation.training.processes import OutOfMemory
from seg_pipeline.segmentation.training.setup import Run
from seg_pipeline.segmentation.training.state import TrainState

log = logging.getLogger(__name__)

STEPS_UNCHECKED = 50
"""Steps between two looks at the loss on a GPU. Each look waits for the device; a non-finite step is skipped anyway."""


def train_step(run: Run, tally: Tally, images: Tensor, truth: Tensor, rate: float) -> None:
    """Updates the weights once; the device skips the update if the loss or its gradient is not finite."""
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
    """Loss and gradients of a batch, computed in parts if memory does not hold it whole."""
    state = run.state
    while True:
        state.optimizer.zero_grad()
        # Dropout depends on the step alone, so a resumed run repeats it.
        torch.manual_seed(state.config.seed + 1_000_003 * state.total_steps)
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
            log.warning("memory ran out: continuing with %d images at a time, same batch size", state.micro_batch)
        if state.device.type == "cuda":
            torch.cuda.empty_cache()


def _backward_parts(
    run: Run, tally: Tally, images: Tensor, truths: list[tuple[float, Tensor]], at_once: int
) -> tuple[Tensor, list[Counts]]:
    total, counts = torch.zeros((), device=run.state.device), []
    starts = range(0, len(images), at_once)
    for begin in starts:
        part = slice(begin, begin + at_once)
        waits = run.processes.world > 1 and begin != starts[-1]  # processes exchange gradients once per batch
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
    """Updates the weights if loss and gradient are finite; returns whether they are, as a bool tensor on the device."""
    state.scaler.unscale_(state.optimizer)
    largest = state.config.optimizer.clip_norm
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), math.inf if largest is None else largest)
    if state.scaler.is_enabled():  # the scaler skips non-finite gradients and lowers its scale
        state.scaler.step(state.optimizer)
        state.scaler.update()
        return loss.isfinite()
    # Fused optimisers skip their update on the device where this is 1: nothing has to wait for it.
    sound = (loss + norm).isfinite()
    state.optimizer.found_inf = (~sound).float()  # type: ignore[attr-defined]
    state.optimizer.step()
    return sound
