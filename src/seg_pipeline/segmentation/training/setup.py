"""The parts of a run that stay the same over its epochs, built from its configuration."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from seg_pipeline.segmentation.data.batch_mixing import Mixing, make_mixing
from seg_pipeline.segmentation.data.loaders import Loaders
from seg_pipeline.segmentation.losses import Loss, make_loss
from seg_pipeline.segmentation.losses.compose import BatchSums
from seg_pipeline.segmentation.metrics.overlap import Counts
from seg_pipeline.segmentation.models.input_check import min_batch_size
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.acceleration import Compiled, worth_compiling
from seg_pipeline.segmentation.training.devices import autocast, pick_precision, set_backends
from seg_pipeline.segmentation.training.epoch_metrics import EpochMetrics
from seg_pipeline.segmentation.training.processes import Processes
from seg_pipeline.segmentation.training.progress import Bar
from seg_pipeline.segmentation.training.schedules import make_schedule
from seg_pipeline.segmentation.training.state import TrainState

SECONDS_BETWEEN_SYNCS = 1.0


class Stopwatch:
    """Elapsed seconds, starting at ``seconds``, the same in all processes; assign ``seconds`` to leave out a pause.

    All processes use the first one's time, which it sends about once per second, because they all wait for it.
    """

    def __init__(self, seconds: float, processes: Processes) -> None:
        self._processes, self._steps, self._steps_left = processes, 1, 1
        self.seconds = seconds

    @property
    def seconds(self) -> float:
        return self._shared_seconds if self._processes.world > 1 else self._local_seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._began, self._shared_seconds = time.perf_counter() - seconds, seconds

    @property
    def _local_seconds(self) -> float:
        return time.perf_counter() - self._began

    def synchronise(self) -> None:
        """Call after each step; about once per second it sends the first process's time to all."""
        self._steps_left -= 1
        if self._processes.world == 1 or self._steps_left > 0:
            return
        before, self._shared_seconds = self._shared_seconds, self._processes.broadcast(self._local_seconds)
        seconds_per_step = (self._shared_seconds - before) / self._steps
        self._steps = self._steps_left = max(1, int(min(SECONDS_BETWEEN_SYNCS / max(seconds_per_step, 1e-3), 100)))

    def total(self) -> float:
        """The first process's time now, in all processes."""
        return self._processes.broadcast(self._local_seconds)


@dataclass
class Run:
    """The parts of a run that stay the same over the epochs of ``fit``."""

    state: TrainState
    loaders: Loaders
    processes: Processes
    loss_fn: Loss
    rate: Callable[[float], float]
    mixing: Mixing | None
    network: Any
    """The model as it trains; wrapped for several processes."""
    compiled: Compiled
    save_seconds: float
    min_batch_size: int
    """Smallest number of images that the network accepts in a training step."""
    validation_micro_batch: int | None = None
    """Validation images computed at once; set after memory ran out."""
    update: Callable[..., tuple[Tensor, ...]] = field(init=False)
    """``step.update_weights`` of this run, or its ``Replay``."""
    evaluate: Callable[..., tuple[Tensor, ...]] = field(init=False)
    """``epoch.evaluate_batch`` of this run, or its ``Replay``."""

    @property
    def augmentation(self) -> Callable[..., tuple[Tensor, Tensor]] | None:
        """Augments batches on the device; None if samples come augmented, or not at all."""
        return self.loaders.augmentation

    def autocast(self) -> AbstractContextManager:
        state = self.state
        return autocast(state.device, pick_precision(state.config.fit.precision, state.device))

    def forward(
        self, images: Tensor, truths: list[tuple[float, Tensor]], batch_sums: list[BatchSums | None]
    ) -> tuple[Tensor, Counts]:
        """Loss, the weighted sum of those of all ``truths``, and counts of training images."""
        with self.autocast():
            logits = self.network(images)
        losses = [
            weight * self.loss_fn(logits, truth, batch_sums=sums)
            for (weight, truth), sums in zip(truths, batch_sums, strict=True)
        ]
        return torch.stack(losses).sum(), self.count(logits.detach(), truths[0][1])

    def count(self, logits: Tensor, truth: Tensor) -> Counts:
        return self.state.model.counts(logits, truth, threshold=self.state.config.scores.threshold)

    def batch_sums(self, truth: Tensor) -> BatchSums:
        """Sums of a batch that the loss of its parts needs."""
        return self.loss_fn.batch_sums(truth, self.state.config.num_channels)

    def bar(self, split: str, title: str, metrics: EpochMetrics) -> Bar:
        loader, order = getattr(self.loaders, split), self.loaders.order
        remaining = (len(order) - order.start) * order.batch_size if split == "train" else len(loader.dataset)
        return Bar(loader, title, remaining // self.processes.world, metrics.means, hidden=self.processes.rank > 0)

    def should_save(self, seconds: float) -> bool:
        """Whether to save, ``seconds`` after the last save."""
        return seconds >= self.save_seconds

    def progress(self, watch: Stopwatch) -> float:
        """Share of the run that is done, the same in all processes."""
        return self.state.progress(len(self.loaders.order), self.state.elapsed + watch.seconds)


def build_run(state: TrainState, loaders: Loaders, save_seconds: float) -> Run:
    """Builds the parts of a run from its configuration."""
    config, processes = state.config, Processes()
    example = torch.zeros(1, config.input.num_channels, *config.input.size, dtype=torch.uint8, device=state.device)
    network = processes.wrap(state.model, state.device, example)
    set_backends(config, state.device)
    num_images = len(loaders.order) * loaders.order.batch_size
    return Run(
        state,
        loaders,
        processes,
        config_loss(config),
        make_schedule(config.optimizer.schedule, peak=1.0, warmup=config.optimizer.warmup),
        make_mixing(config.sampling.mix, share=config.sampling.mix_share, seed=config.seed),
        network,
        Compiled(enabled=worth_compiling(config, state.device, num_images)),
        save_seconds,
        min_batch_size(config),
    )


def config_loss(config: TrainingConfig) -> Loss:
    """The loss of a configuration whose class weights are numbers (see ``auto_settings``)."""
    loss = config.loss
    assert loss.class_weights not in ("auto", "balanced"), "`resolve_auto_settings` turns them into numbers"
    return make_loss(
        config.task,
        terms={str(name): weight for name, weight in loss.terms.items()} if loss.terms else None,
        class_weights=config.channel_weights,
        focal_gamma=loss.focal_gamma,
        tversky_beta=loss.tversky_beta,
        background=config.background,
    )
