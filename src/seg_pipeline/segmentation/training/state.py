"""State of a training run between two steps; resuming from it gives bit-identical results."""

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import nn

from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.models.trained_weights import load_start_weights
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.devices import pick_precision
from seg_pipeline.segmentation.training.optimizers import make_optimizer, place_learning_rates
from seg_pipeline.segmentation.training.processes import TrainingFailed, with_sync_batch_norm


class RunningMean:
    """Exponential mean of a model's weights and batch statistics (Polyak and Juditsky 1992; as in EMA).

    Its decay rises as (1 + n) / (10 + n) over the first steps n, so that it soon forgets the initial weights.
    """

    def __init__(self, model: Segmenter, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model).requires_grad_(False).eval(), decay
        pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the mean with the model's weights after step ``step``, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_([mean for mean, _ in self._floats], [current for _, current in self._floats], 1 - decay)

    @torch.no_grad()
    def copy_counters(self) -> None:
        """Copy the model's integers, such as batch norm's batch counters, which no computation uses."""
        for mean, current in self._counters:
            mean.copy_(current)


FIRST_SCALE = 2.0**16
"""Initial loss scale for float16, as in torch; each step whose gradient overflows halves it."""
SMALLEST_SCALE = 1e-4
"""Loss scale below which training has failed, as in fairseq's ``min_loss_scale``."""

HISTORY = [
    "epoch", "learning_rate", "train_loss", "train_dice", "train_pixel_accuracy",
    "val_loss", "val_dice", "val_pixel_accuracy", "seconds",
]  # fmt: skip
"""Columns of a run's history."""


@dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
        history: one row per epoch: epoch (from 1), learning_rate (at its end), loss, Dice and pixel accuracy
            of train and val (NaN where it was not validated), seconds.
        best: weights and row of the epoch with the highest validation Dice, the first of equals.
        step: steps done in the current epoch; 0 between epochs.
        partial: loss and counts of the current epoch up to ``step``.
        seconds: duration of the current epoch up to ``step``.
        micro_batch: images computed at once; reduced if memory ran out.
    """

    config: TrainingConfig
    data_hash: str
    model: Segmenter
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    mean: RunningMean | None = None
    history: list[dict] = field(default_factory=list)
    best: dict | None = None
    step: int = 0
    total_steps: int = 0
    partial: dict | None = None
    seconds: float = 0.0
    validation_seconds: float = 0.0
    micro_batch: int | None = None
    finished: bool = False

    @property
    def eval_model(self) -> Segmenter:
        """The model to validate and save: the running mean of the weights, if there is one."""
        return self.mean.model if self.mean else self.model

    @property
    def elapsed(self) -> float:
        """Total duration of the finished epochs, in seconds."""
        return sum(row["seconds"] for row in self.history)

    def progress(self, steps_per_epoch: int, seconds: float) -> float:
        """Completed fraction of the run, 0 to 1: of its steps or of its time limit, whichever is larger."""
        fit = self.config.fit
        share = self.total_steps / (fit.epochs * steps_per_epoch)
        if fit.max_minutes is not None:
            share = max(share, seconds / max(60 * fit.max_minutes - self.validation_seconds, 1e-3))
        return min(share, 1.0)

    def add(self, row: dict) -> None:
        """Finish an epoch: record its row, and keep its weights if it is the best so far."""
        self.history.append(row)
        self.step, self.partial, self.seconds = 0, None, 0.0
        if self.best is None or _score(row) > _score(self.best["row"]):
            self.best = {"row": row, "model": _on_cpu(self.eval_model)}
        self.finished = self.finished or len(self.history) >= self.config.fit.epochs or self._patience_exceeded()

    def _patience_exceeded(self) -> bool:
        patience = self.config.fit.patience
        assert self.best is not None
        return patience is not None and len(self.history) - self.best["row"]["epoch"] >= patience

    def check_finite(self) -> None:
        """Raises TrainingFailed if a weight or batch statistic is not finite; waits for the device."""
        models = [self.model, self.mean.model] if self.mean else [self.model]
        values: list[torch.Tensor] = [value for model in models for value in model.parameters()]
        buffers = (buffer for model in models for buffer in model.named_buffers())
        # others, such as masks of attention, may be infinite by design
        values += [value for name, value in buffers if name.endswith(("running_mean", "running_var"))]
        if not nn.utils.get_total_norm(values, math.inf).isfinite():
            raise TrainingFailed(
                f"epoch {len(self.history) + 1}, step {self.step}: weights or batch statistics are not finite. The "
                "last save is from before. Lower `training.optimizer.learning_rate`, or train in "
                "`training.fit.precision: float32`"
            )

    def check_loss_scale(self) -> None:
        """Raise TrainingFailed if float16 gradients overflow even at a tiny loss scale."""
        scale = self.scaler.get_scale()
        if self.scaler.is_enabled() and scale < SMALLEST_SCALE:
            self._raise_gradients(f"though the loss is scaled by only {scale:.1g}")

    def check_trained(self) -> None:
        """Raise TrainingFailed if no step had a finite float16 gradient, so that every step halved the scale."""
        halved = math.ldexp(FIRST_SCALE, -self.total_steps)
        if self.scaler.is_enabled() and self.total_steps and self.scaler.get_scale() == halved:
            self._raise_gradients(f"in any of the {self.total_steps} steps")

    def _raise_gradients(self, when: str) -> None:
        raise TrainingFailed(
            f"float16: the gradient is not finite, {when}, so no weight changes. Train in "
            "`training.fit.precision: bfloat16` or float32, or lower `training.optimizer.learning_rate`"
        )

    def best_model(self) -> dict:
        """Weights and row of the best epoch; before the first has ended, the current weights."""
        return self.best or {"row": {"epoch": 0}, "model": _on_cpu(self.eval_model)}

    def to_dict(self) -> dict:
        """Return everything needed to resume the run, as plain values and tensors."""
        return {
            "config": self.config.to_dict(),
            "data_hash": self.data_hash,
            "model": self.model.state_dict(),
            "mean": self.mean.model.state_dict() if self.mean else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            **{name: getattr(self, name) for name in _PLAIN},
        }


_PLAIN = (
    "history", "best", "step", "total_steps", "partial", "seconds", "validation_seconds", "micro_batch", "finished",
)  # fmt: skip


def _score(row: dict) -> float:
    return -math.inf if math.isnan(row["val_dice"]) else row["val_dice"]


def _on_cpu(model: nn.Module) -> dict:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def start(config: TrainingConfig, data_hash: str, device: torch.device) -> TrainState:
    """Create a run before its first step; equal configs give equal weights. ``data`` is the manifest's hash."""
    return _build_state(config, data_hash, device, new=True)


def _build_state(config: TrainingConfig, data_hash: str, device: torch.device, *, new: bool) -> TrainState:
    """Build the state of a ``new`` run with its initial weights, or of one to restore with random weights."""
    torch.manual_seed(config.seed)
    model = Segmenter(config, pretrained=new and config.start.checkpoint is None).to(device)
    if new and config.start.checkpoint is not None:
        load_start_weights(model, config)
    model.net = with_sync_batch_norm(model.net, device)  # before the running mean copies the model
    scaled = pick_precision(config.fit.precision, device) == torch.float16
    return TrainState(
        config,
        data_hash,
        model,
        make_optimizer(model, config.optimizer),
        torch.amp.GradScaler(device.type, FIRST_SCALE, enabled=scaled),
        device,
        mean=RunningMean(model, config.fit.ema) if config.fit.ema else None,
        micro_batch=config.sampling.micro_batch_size,
    )


def restore(saved: dict, device: torch.device) -> TrainState:
    """Restore a run saved by ``TrainState.to_dict``; raises ValueError if its parts do not fit its config."""
    state = _build_state(TrainingConfig.from_dict(saved["config"]), saved["data_hash"], device, new=False)
    parts = {"model": state.model, "optimizer": state.optimizer, "scaler": state.scaler}
    for name, part in {**parts, **({"mean": state.mean.model} if state.mean else {})}.items():
        try:
            part.load_state_dict(saved[name])  # type: ignore[attr-defined]
        except Exception as error:  # of torch's kinds  # noqa: BLE001
            raise ValueError(f"checkpoint: `current.{name}` does not fit `current.config`: {error!s:.300}") from None
    place_learning_rates(state.optimizer)
    for name in _PLAIN:
        setattr(state, name, copy.copy(saved[name]))
    return state
