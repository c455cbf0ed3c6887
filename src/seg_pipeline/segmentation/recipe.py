"""All that determines a training run, as plain values: what a checkpoint records and a resume compares."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

from seg_pipeline.segmentation.metrics import Aggregation, EmptyPolicy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run. What cannot change its result (device, workers, cache) is not here."""

    task: str
    """multilabel or multiclass."""
    classes: tuple[str, ...]
    background: bool
    """Multiclass pixels may belong to no class: the network has a channel more, its first."""
    architecture: str
    encoder: str
    encoder_weights: str | None
    decoder_channels: tuple[int, ...] | None
    size: tuple[int, int]
    """Height and width of the network's input."""
    window: tuple[float, float] | None
    """Percentiles of an image that become black and white."""
    augmentation: str
    batch_size: int
    loss: str | None
    """None: the task's default."""
    dice_weight: float
    learning_rate: float
    weight_decay: float
    warmup_epochs: float
    clip_norm: float | None
    epochs: int
    precision: str
    aggregation: Aggregation
    empty_policy: EmptyPolicy
    """With ``aggregation``: how the validation Dice that chooses the best epoch is taken."""
    threshold: float
    seed: int

    def to_dict(self) -> dict:
        """Plain values, as ``from_dict`` takes them back from a checkpoint."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        plain: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in values.items()}
        return cls(**plain)

    def differences(self, other: Recipe) -> list[str]:
        """ "key: mine, theirs" for each setting that differs."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [f"{name}: {mine[name]}, there {theirs[name]}" for name in mine if mine[name] != theirs[name]]


def with_search(recipe: Recipe, found: dict | None, data_hash: str) -> Recipe:
    """The recipe with the learning rate that a search found, where it searched on the same data; says which.

    Args:
        found: learning_rate, reason and data_hash of the search, or None.
    """
    if found is None:
        log.info("learning rate %g, from the parameters", recipe.learning_rate)
        return recipe
    if found["data_hash"] != data_hash:
        log.warning("learning rate %g, from the parameters: the search was on other data", recipe.learning_rate)
        return recipe
    log.info("learning rate %g, from the search: %s", found["learning_rate"], found["reason"])
    return replace(recipe, learning_rate=found["learning_rate"])
