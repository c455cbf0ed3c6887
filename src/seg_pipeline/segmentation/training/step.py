"""One training step: augmentation, forward, backward and the update of the weights.

A step never waits for the device: the device checks whether the loss is finite, and the host reads the result only now
and then. ``update_weights`` is the part that ``acceleration.Replay`` records as a CUDA graph.
"""

import logging
import math
from contextlib import nullcontext
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from seg_pipeline.segmentation.data.loaders import Batch
from seg_pipeline.segmentation.losses.compose import PIXEL_MEANS
from seg_pipeline.segmentation.metrics.overlap import Counts, concatenate
from seg_pipeline.segmentation.training.acceleration import is_recording
from seg_pipeline.segmentation.training.epoch_metrics import EpochMetrics
from seg_pipeline.segmentation.training.optimizers import set_rate
from seg_pipeline.segmentation.training.processes import OutOfMemory
from seg_pipeline.segmentation.training.setup import Run
from seg_pipeline.segmentation.training.state import TrainState

log = logging.getLogger(__name__)

STEPS_BETWEEN_CHECKS = 50
"""Steps between two checks of the loss on a GPU. Each waits for the device, which skips a non-finite step anyway."""


def train_step(run: Run, metrics: EpochMetrics, batch: Batch, rate: float) -> None:
    """Update the weights once; the device skips the update if the loss or its gradient is not finite.

    Args:
        batch: images uint8 (B, K, H, W), truth uint8 (B, C, H, W) or (B, H, W), and the augmentation's parameters
            (B, P) if the device augments. On the host or on the device.
        rate: learning rate as a share of its peak.
    """
    state = run.state
    set_rate(state.optimizer, rate * state.config.optimizer.learning_rate)
    _seed(state)
    loss, is_finite, *counts = run.update(*batch)
    metrics.add(loss, Counts(*counts), len(batch[0]), is_finite=is_finite)
    state.step, state.total_steps = state.step + 1, state.total_steps + 1
    if state.mean:
        state.mean.update(state.total_steps)
    if should_check_loss(state):
        metrics.check_finite(run.loaders.order)


def should_check_loss(state: TrainState) -> bool:
    """Whether to check after this step that losses were finite; on a CPU the check costs nothing."""
    return state.device.type == "cpu" or state.step % STEPS_BETWEEN_CHECKS == 0


def _seed(state: TrainState) -> None:
    """Seed dropout by the step, so that a resumed run repeats it. torch.manual_seed would take 110 µs."""
    seed = state.config.seed + 1_000_003 * state.total_steps
    torch.default_generator.manual_seed(seed)
    if state.device.type == "cuda":
        torch.cuda.manual_seed(seed)


def update_weights(run: Run, images: Tensor, truth: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
    """The part of a step that runs on the device.

    Returns:
        The loss; whether it and its gradient are finite; the fields of ``Counts``, (B, C) and (B,).
    """
    state = run.state
    batch = [part.to(state.device, non_blocking=True) for part in (images, truth, *parameters)]
    loss, counts = backward(run, *batch)
    try:
        is_finite = _apply_gradients(state, loss)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"memory ran out when {state.config.optimizer.name} updated the weights; set a smaller model, or "
            "`training.optimizer.name: sgd` with `momentum: 0`, which stores nothing per weight"
        ) from error
    return loss, is_finite, *counts


def backward(run: Run, images: Tensor, truth: Tensor, *parameters: Tensor) -> tuple[Tensor, Counts]:
    """Loss and gradients of a batch, computed in parts if it does not fit into memory."""
    state = run.state
    while True:
        state.optimizer.zero_grad()
        try:
            return _backward_parts(run, *_augment(run, images, truth, *parameters))
        except TorchDynamoException as error:
            run.compiled.give_up(error)
        except torch.OutOfMemoryError as error:
            if is_recording(state.device):
                raise
            _halve_micro_batch(run, images, error)
        _seed(state)
        if state.device.type == "cuda":
            torch.cuda.empty_cache()


def _halve_micro_batch(run: Run, images: Tensor, error: torch.OutOfMemoryError) -> None:
    """Halve the images per pass; raises OutOfMemory if that is impossible."""
    state = run.state
    at_once = min(state.micro_batch or len(images), len(images))
    fewer = (at_once + 1) // 2
    if at_once == 1 or run.processes.world > 1 or smallest_part(len(images), fewer) < run.min_batch_size:
        raise OutOfMemory(
            f"memory ran out with {at_once} images of {tuple(images.shape[1:])} at once; set a smaller "
            "`training.input.size`, `training.sampling.micro_batch_size` or model"
        ) from error
    state.micro_batch = fewer
    affected = " and ".join([*(name for name in run.loss_fn.terms if name not in PIXEL_MEANS), "batch norm"])
    log.warning(
        "memory ran out: continuing with %d images at a time, same batch size. From now on %s see only so many "
        "images at once, as with `training.sampling.micro_batch_size: %d`",
        *(fewer, affected, fewer),
    )


def _augment(run: Run, images: Tensor, truth: Tensor, *parameters: Tensor) -> tuple[Tensor, list[tuple[float, Tensor]]]:
    """Images, and ground truths with their weights in the loss: two of each image after mixup."""
    state = run.state
    if run.augmentation and parameters:
        images, truth = run.compiled(run.augmentation, images, truth, *parameters)
    truths = [(1.0, truth)]
    if run.mixing:
        images, truths = run.mixing(images, truth, epoch=len(state.history), step=state.step)
    return images, [(weight, state.model.subsample(labels)) for weight, labels in truths]


def split_batch(num_images: int, at_once: int) -> list[slice]:
    """Split a batch into parts of at most ``at_once`` images, as equal as possible: 5 by 4 is 3 and 2, not 4 and 1."""
    number = math.ceil(num_images / at_once)
    bounds = [math.ceil(part * num_images / number) for part in range(number + 1)]
    return [slice(*ends) for ends in pairwise(bounds)]


def smallest_part(num_images: int, at_once: int) -> int:
    """Number of images in the smallest part of ``split_batch``."""
    return num_images // math.ceil(num_images / at_once)


def _backward_parts(run: Run, images: Tensor, truths: list[tuple[float, Tensor]]) -> tuple[Tensor, Counts]:
    state = run.state
    total, counts = torch.zeros((), device=state.device), []
    parts = split_batch(len(images), state.micro_batch or len(images))
    batch_sums = [run.batch_sums(truth) if len(parts) > 1 else None for _, truth in truths]
    for part in parts:
        deferred = run.processes.world > 1 and part != parts[-1]  # processes exchange gradients once per batch
        with run.network.no_sync() if deferred else nullcontext():
            part_truths = [(weight, truth[part]) for weight, truth in truths]
            loss, part_counts = run.compiled(run.forward, images[part], part_truths, batch_sums)
            state.scaler.scale(loss).backward()
        total += loss.detach()
        counts.append(part_counts)
    return total, concatenate(counts)


def _apply_gradients(state: TrainState, loss: Tensor) -> Tensor:
    """Updates the weights if loss and gradient are finite; returns whether they are, as a bool tensor on the device."""
    state.scaler.unscale_(state.optimizer)
    max_norm = state.config.optimizer.clip_norm
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), math.inf if max_norm is None else max_norm)
    # Fused optimisers read this flag on the device and skip the update where it is 1, so the host need not wait.
    is_finite = (loss + norm).isfinite()
    state.optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
    state.optimizer.step()
    state.scaler.update()
    # With float16 some gradients overflow until the scale is found, so only the loss counts.
    return loss.isfinite() if state.scaler.is_enabled() else is_finite
