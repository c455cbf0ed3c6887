"""The training loop: one screen, no files. What it knows between epochs is a ``TrainState``."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from seg_pipeline.segmentation.devices import autocast, pick_device, pick_precision
from seg_pipeline.segmentation.loaders import Loaders, make_loaders
from seg_pipeline.segmentation.losses import Loss, make_loss
from seg_pipeline.segmentation.manifest import data_hash
from seg_pipeline.segmentation.metrics import OverlapCounts, mean_dice, pixel_accuracy
from seg_pipeline.segmentation.recipe import Recipe
from seg_pipeline.segmentation.schedules import make_schedule
from seg_pipeline.segmentation.segmenter import Segmenter

log = logging.getLogger(__name__)


@dataclass
class TrainState:
    """Everything that training changes.

    Attributes:
        history: a row an epoch: epoch (from 1), learning_rate (at its end), loss, Dice and pixel accuracy
            of train and val, seconds.
        best: weights and row of the epoch with the highest validation Dice, the first of equals.
    """

    recipe: Recipe
    data_hash: str
    model: Segmenter
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    history: list[dict] = field(default_factory=list)
    best: dict | None = None

    @property
    def finished(self) -> bool:
        return len(self.history) >= self.recipe.epochs

    def add(self, row: dict) -> None:
        """Takes in the row of an epoch, and its weights where it is the best so far."""
        self.history.append(row)
        if self.best is None or _rank(row) > _rank(self.best["row"]):
            weights = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
            self.best = {"row": row, "model": weights}

    def best_checkpoint(self) -> dict:
        """Rebuilds the best model: plain values and tensors."""
        assert self.best is not None, "no epoch has ended yet"
        return {"recipe": self.recipe.to_dict(), "data_hash": self.data_hash, **self.best}

    def last_checkpoint(self) -> dict:
        """Continues the run: plain values and tensors."""
        return {
            "recipe": self.recipe.to_dict(),
            "data_hash": self.data_hash,
            "history": self.history,
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }


def _rank(row: dict) -> float:
    return -math.inf if math.isnan(row["val_dice"]) else row["val_dice"]


def start(recipe: Recipe, data: str, device: torch.device) -> TrainState:
    """A run before its first epoch; equal weights for equal recipes. ``data`` is the manifest's hash."""
    torch.manual_seed(recipe.seed)
    model = Segmenter(recipe, pretrained=True).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    scaled = pick_precision(recipe.precision, device) == torch.float16
    return TrainState(recipe, data, model, optimizer, torch.amp.GradScaler(device.type, enabled=scaled), device)


def resume(recipe: Recipe, data: str, device: torch.device, saved: dict | None) -> TrainState:
    """The saved run at its last whole epoch, or a new one where there is none or a finished other one.

    Raises:
        ValueError: the saved run has other settings or data and is not finished: going on would mix
            the two, starting anew would lose it.
    """
    if saved is None:
        return start(recipe, data, device)
    theirs = Recipe.from_dict(saved["recipe"])
    differences = recipe.differences(theirs) + ["data or splits"] * (saved["data_hash"] != data)
    done = len(saved["history"])
    if not differences:
        log.info("training: %d of %d epochs are done, with these settings and data", done, recipe.epochs)
        return _restore(recipe, device, saved)
    if done >= theirs.epochs:
        log.info("training: starts anew, as the last run (finished) differs in %s", "; ".join(differences))
        return start(recipe, data, device)
    raise ValueError(
        f"an unfinished training run ({done} of {theirs.epochs} epochs) has other settings: {'; '.join(differences)}. "
        "Set them back to go on with it, or start anew with `--params training.resume=false`"
    )


def _restore(recipe: Recipe, device: torch.device, saved: dict) -> TrainState:
    state = start(recipe, saved["data_hash"], device)
    state.model.load_state_dict(saved["model"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.scaler.load_state_dict(saved["scaler"])
    state.history, state.best = list(saved["history"]), saved["best"]
    return state


def fit(state: TrainState, loaders: Loaders) -> Iterator[dict]:
    """Trains to the recipe's last epoch, yielding the row that each epoch adds to ``state.history``."""
    recipe = state.recipe
    loss_fn = make_loss(recipe.task, recipe.loss, dice_weight=recipe.dice_weight)
    steps = len(loaders.train)
    warmup = min(round(recipe.warmup_epochs * steps), recipe.epochs * steps)
    rate = make_schedule("cosine", peak=recipe.learning_rate, warmup=warmup, total=recipe.epochs * steps)
    for epoch in range(len(state.history), recipe.epochs):
        began = time.perf_counter()
        torch.manual_seed(recipe.seed + epoch)  # dropout; order and augmentation take (seed, epoch) themselves
        loaders.order.epoch = epoch
        row = {"epoch": epoch + 1, "learning_rate": rate((epoch + 1) * steps - 1)}
        row |= train_one_epoch(state, loaders.train, loss_fn, rate, epoch)
        row |= evaluate(state, loaders.val, loss_fn)
        state.add(row | {"seconds": time.perf_counter() - began})
        yield state.history[-1]


def runner(
    manifest: pd.DataFrame, *, device: str, num_workers: int | None, cache: bool | None
) -> Callable[[Recipe], Iterator[dict]]:
    """A function that trains a recipe from the start and yields its history rows, keeping nothing."""
    chosen, hashed = pick_device(device), data_hash(manifest)

    def run(recipe: Recipe) -> Iterator[dict]:
        loaders = make_loaders(manifest, recipe, device=chosen, num_workers=num_workers, cache=cache)
        return fit(start(recipe, hashed, chosen), loaders)

    return run


def line(row: dict, epochs: int) -> str:
    """A history row for the terminal."""
    return (
        f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.4f}, validation loss {row['val_loss']:.4f}, "
        f"Dice {row['val_dice']:.4f}, pixel accuracy {row['val_pixel_accuracy']:.4f} ({row['seconds']:.1f} s)"
    )


def train_one_epoch(
    state: TrainState, loader: DataLoader, loss_fn: Loss, rate: Callable[[int], float], epoch: int
) -> dict:
    """One pass over the train split. Raises RuntimeError where the mean loss is not a number."""
    state.model.train()
    tally = _Tally(state, loss_fn)
    for step, (images, masks) in enumerate(_shown(loader, f"epoch {epoch + 1}"), start=epoch * len(loader)):
        for group in state.optimizer.param_groups:
            group["lr"] = rate(step)
        loss = tally.add(images, masks)
        state.optimizer.zero_grad()
        state.scaler.scale(loss).backward()
        _step(state)
    return tally.row("train")


@torch.inference_mode()
def evaluate(state: TrainState, loader: DataLoader, loss_fn: Loss) -> dict:
    """One pass over the validation split, at the network's input size."""
    state.model.eval()
    tally = _Tally(state, loss_fn)
    for images, masks in _shown(loader, "validation"):
        tally.add(images, masks)
    return tally.row("val")


def _step(state: TrainState) -> None:
    state.scaler.unscale_(state.optimizer)
    if state.recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(state.model.parameters(), state.recipe.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()


def _shown(loader: DataLoader, what: str) -> tqdm:
    return tqdm(loader, desc=what, unit="batch", leave=False, disable=None)


class _Tally:
    """Runs batches forward and keeps loss and counts on the device; one copy to the host an epoch."""

    def __init__(self, state: TrainState, loss_fn: Loss) -> None:
        self.state, self.loss_fn = state, loss_fn
        self.dtype = pick_precision(state.recipe.precision, state.device)
        self.overlap = OverlapCounts().to(state.device)
        self.loss_sum = torch.zeros((), device=state.device)
        self.seen = 0

    def add(self, images: Tensor, masks: Tensor) -> Tensor:
        """Mean loss of the batch."""
        images, masks = (part.to(self.state.device, non_blocking=True) for part in (images, masks))
        with autocast(self.state.device, self.dtype):
            logits = self.state.model(images)
        loss = self.loss_fn(logits, masks)
        predicted = self.state.model.masks(logits.detach(), threshold=self.state.recipe.threshold)
        self.overlap.update(predicted, masks)
        self.loss_sum += loss.detach() * len(images)
        self.seen += len(images)
        return loss

    def row(self, split: str) -> dict:
        loss = self.loss_sum.item() / self.seen
        if not math.isfinite(loss):
            raise RuntimeError(
                f"the mean {split} loss over {self.seen} images is {loss}; lower `training.optimizer.learning_rate`, "
                "or train in `precision: float32`"
            )
        counts, recipe = self.overlap.compute(), self.state.recipe
        dice = mean_dice(counts, aggregation=recipe.aggregation, empty_policy=recipe.empty_policy)
        return {
            f"{split}_loss": loss,
            f"{split}_dice": dice,
            f"{split}_pixel_accuracy": pixel_accuracy(counts),
        }
