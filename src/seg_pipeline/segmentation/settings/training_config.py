"""All settings that determine a training run; checkpoints record them, and resuming compares them."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from seg_pipeline.segmentation.settings.plain_values import from_plain, to_plain, to_tuples
from seg_pipeline.segmentation.settings.training import (
    FitSettings,
    InputSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    SamplingSettings,
    ScoreSettings,
    StartSettings,
    Task,
)

log = logging.getLogger(__name__)

GROUPS = ("model", "input", "sampling", "loss", "optimizer", "fit")
"""Groups of settings that have the same name in the parameters `training`."""
FROM_SEARCH = "from_search"
"""Key beside the settings in training_config.json: the values taken from a search, and the reason."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of one training run, except those that cannot change its result (device, workers, cache)."""

    task: Task
    classes: tuple[str, ...]
    background: bool = False
    """Whether multiclass pixels may belong to no class; if so, the network's first channel is the background."""
    objects: bool = False
    """Whether the network also predicts the gaps between objects, one channel per class after the classes."""
    model: ModelSettings = field(default_factory=ModelSettings)
    input: InputSettings = field(default_factory=InputSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    scores: ScoreSettings = field(default_factory=ScoreSettings)
    seed: int = 0
    start: StartSettings = field(default_factory=StartSettings)
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the weight files named in the settings, by setting."""

    def __post_init__(self) -> None:
        if not self.classes or not all(self.classes) or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"`classes` must be different names, found {list(self.classes)}")
        if self.background and self.task == "multilabel":
            raise ValueError("`background` is for multiclass tasks; in a multilabel task a pixel may have no class")
        if self.objects and self.task != "multilabel":
            raise ValueError("`objects` is for multilabel tasks, whose channels do not compete; found multiclass")
        terms, weights = self.loss.terms, self.loss.class_weights
        wrong_term = "ce" if self.task == "multilabel" else "bce"
        if terms is not None and (not terms or wrong_term in terms):
            raise ValueError(
                f"`loss.terms` of a {self.task} task must not be empty or contain {wrong_term}; found {terms}"
            )
        num_weights = len(self.classes) + self.background
        if not isinstance(weights, str) and len(weights) != num_weights:
            first = "the background's first, " if self.background else ""
            raise ValueError(f"`loss.class_weights` must be {num_weights} numbers, {first}found {len(weights)}")

    @property
    def num_channels(self) -> int:
        """Number of channels of the logits: the background, if there is one, the classes, and their gaps."""
        return len(self.classes) * (1 + self.objects) + self.background

    @property
    def channel_weights(self) -> tuple[float, ...] | None:
        """``loss.class_weights`` as numbers, one per channel; None if they are equal."""
        weights = self.loss.class_weights
        return None if isinstance(weights, str) else (*weights, *[1.0] * (len(self.classes) * self.objects))

    def changed(self, values: Mapping[str, Any]) -> TrainingConfig:
        """Return a copy with new values by dotted name: ``changed({"optimizer.learning_rate": 1e-3, "seed": 4})``."""
        config = self
        for name, value in values.items():
            group, _, key = name.rpartition(".")
            new = {key: to_tuples(value)}
            if group:
                new = {group: replace(getattr(config, group), **new)}
            config = replace(config, **new)
        return config

    def value(self, name: str) -> Any:
        """Return the plain value of a setting by dotted name; raises AttributeError if there is none."""
        return to_plain(functools.reduce(getattr, name.split("."), self))

    def to_dict(self) -> dict:
        """Return plain values for a checkpoint, which ``from_dict`` reads back."""
        return to_plain(asdict(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """Read a config, ignoring ``FROM_SEARCH``.

        Raises:
            ValueError: ``values`` are damaged or come from another version; the message names the setting.
        """
        new_settings = {"objects": False, "start": asdict(StartSettings()), "files": {}}  # than older checkpoints
        all_values = {**new_settings, **values}
        try:
            return from_plain(cls, {name: value for name, value in all_values.items() if name != FROM_SEARCH})
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the checkpoint's settings come from another version of this project ({error}); train again with "
                "`--params training.resume=false`, or use the version that wrote it"
            ) from None

    def flat(self) -> dict[str, Any]:
        """Return plain values by dotted name."""
        return flat(self.to_dict())

    def differences(self, other: TrainingConfig) -> list[str]:
        """Describe each setting that differs, as "key: own, there other"; moved files are no difference."""
        own, others = self.flat(), other.flat()
        moved = {name for name, digest in self.files.items() if digest == other.files.get(name)}
        return [
            f"{name}: {own.get(name)}, there {others.get(name)}"
            for name in own | others
            if own.get(name) != others.get(name) and name not in moved
        ]


def flat(nested: Mapping, *, joint: str = ".") -> dict[str, Any]:
    """Flatten nested dicts: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``; an empty dict stays a value."""
    result: dict[str, Any] = {}
    for key, value in nested.items():
        inner = flat(value, joint=joint) if isinstance(value, dict) else {}
        result |= {f"{key}{joint}{name}": one for name, one in inner.items()} or {str(key): value}
    return result


NOT_COMPARED = ("fit.epochs", "fit.max_minutes", "fit.patience", "fit.validate_every", "seed")
"""Settings that may differ between a search and the training that uses its values: trials are short, with own seeds."""


def base_hash(config: TrainingConfig, names: Iterable[str]) -> str:
    """SHA-256 of all settings except ``NOT_COMPARED`` and those with the given dotted names."""
    left_out = {*names, *NOT_COMPARED}
    settings = [
        (name, value)
        for name, value in config.flat().items()
        if not any(name == prefix or name.startswith(f"{prefix}.") for prefix in left_out)
    ]
    return hashlib.sha256(json.dumps(sorted(settings)).encode()).hexdigest()


def with_search(config: TrainingConfig, search_result: dict | None, data_hash: str) -> tuple[TrainingConfig, dict]:
    """Apply the values that a search found, if it used the same data and the same other settings.

    Args:
        search_result: values by dotted name, reason, data_hash and base of the search, or None.

    Returns:
        The config, and the applied part of the result (values, val_dice, epochs, reason); an empty dict if none.
    """
    reason = _reason_not_to_use(config, search_result, data_hash)
    if search_result is None or reason:
        log.log(logging.WARNING if search_result else logging.INFO, "all settings come from the parameters: %s", reason)
        return config, {}
    applied = ", ".join(f"{name} {value}" for name, value in search_result["values"].items())
    log.info("from the search: %s (%s); all other settings come from the parameters", applied, search_result["reason"])
    return config.changed(search_result["values"]), {
        name: search_result[name] for name in ("values", "val_dice", "epochs", "reason")
    }


def _reason_not_to_use(config: TrainingConfig, search_result: dict | None, data_hash: str) -> str:
    if search_result is None:
        return "no search result is used"
    if search_result["data_hash"] != data_hash:
        return "the search used other data"
    if search_result.get("base") != base_hash(config, search_result.get("values", ())):
        return "the search used other settings; to search with these: `kedro run --pipeline hparam_search`"
    return ""
