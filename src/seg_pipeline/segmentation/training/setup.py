"""What a run is made of: the parts that stay the same over its epochs, built from its configuration."""

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
from seg_pipeline.segmentation.losses.compose import Whole
from seg_pipeline.segmentation.metrics.overlap import Counts
from seg_pipeline.segmentation.models.input_check import fewest_images
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.acceleration import Compiled, worth_compiling
from seg_pipeline.segmentation.training.devices import autocast, pick_precision, set_backends
from seg_pipeline.segmentation.training.epoch_metrics import Tally
from seg_pipeline.segmentation.training.processes import Processes
from seg_pipeline.segmentation.training.progress import Bar
from seg_pipeline.segmentation.training.schedules import make_schedule
from seg_pipeline.segmentation.training.state import TrainState

SECONDS_BETWEEN_AGREEMENTS = 1.0


class Stopwatch:
    """Seconds since it started at ``seconds``, the same in all processes; set it back to leave out a pause.

    Processes take over the first one's time about once per second, and keep it in between: each time they all wait.
    """

    def __init__(self, seconds: float, processes: Processes) -> None:
        self._processes, self._steps, self._steps_left = processes, 1, 1
        self.seconds = seconds

    @property
    def seconds(self) -> float:
        return self._agreed if self._processes.world > 1 else self._own

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._began, self._agreed = time.perf_counter() - seconds, seconds

    @property
    def _own(self) -> float:
        return time.perf_counter() - self._began

    def agree(self) -> None:
        """To be called after each step."""
        self._steps_left -= 1
        if self._processes.world == 1 or self._steps_left > 0:
            return
        before, self._agreed = self._agreed, self._processes.agreed(self._own)
        each = (self._agreed - before) / self._steps
        self._steps = self._steps_left = max(1, int(min(SECONDS_BETWEEN_AGREEMENTS / max(each, 1e-3), 100)))

    def total(self) -> float:
        """The first process's time now, for all."""
        return self._processes.agreed(self._own)


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
    """The model as it trains; wrapped for several processes."""
    compiled: Compiled
    save_seconds: float
    fewest_images: int
    """That the network takes in a training step."""
    validated_at_once: int | None = None
    """Images, once memory did not hold a batch of validation images."""
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
        self, images: Tensor, truths: list[tuple[float, Tensor]], wholes: list[Whole | None]
    ) -> tuple[Tensor, Counts]:
        """Loss, the weighted sum of those of all ``truths``, and counts of training images."""
        with self.autocast():
            logits = self.network(images)
        losses = [
            weight * self.loss_fn(logits, truth, whole=whole)
            for (weight, truth), whole in zip(truths, wholes, strict=True)
        ]
        return torch.stack(losses).sum(), self.count(logits.detach(), truths[0][1])

    def count(self, logits: Tensor, truth: Tensor) -> Counts:
        return self.state.model.counts(logits, truth, threshold=self.state.config.scores.threshold)

    def whole(self, truth: Tensor) -> Whole:
        """What the loss of a part of a batch needs to know of it."""
        return self.loss_fn.whole(truth, self.state.config.num_channels)

    def bar(self, split: str, title: str, tally: Tally) -> Bar:
        loader, order = getattr(self.loaders, split), self.loaders.order
        left = (len(order) - order.start) * order.batch_size if split == "train" else len(loader.dataset)
        return Bar(loader, title, left // self.processes.world, tally.means, hidden=self.processes.rank > 0)

    def is_due(self, seconds: float) -> bool:
        """Whether to save, ``seconds`` after the last save."""
        return seconds >= self.save_seconds

    def progress(self, watch: Stopwatch) -> float:
        """Share of the run that is done, the same in all processes."""
        return self.state.progress(len(self.loaders.order), self.state.spent + watch.seconds)


def prepare(state: TrainState, loaders: Loaders, save_seconds: float) -> Run:
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
        fewest_images(config),
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
