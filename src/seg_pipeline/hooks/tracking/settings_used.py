"""The settings that a run used, by their key in YAML, and where each came from that is not from conf/."""

from collections.abc import Iterable
from typing import Any

from seg_pipeline.segmentation.settings.training_config import FROM_SEARCH, GROUPS, flat

CHOSEN_LATER = ("training.sampling.batch_size", "training.input.statistics", "training.loss.class_weights")
"""What training replaces once it has seen data and device; see ``training/auto_settings.py``."""
ELSEWHERE = "training.input.reading"
"""A copy of `dataset.reading`."""


class UsedSettings:
    """The parameters of a run, with the training settings that it really used once they are known.

    Stores such as mlflow keep the first value of a parameter, so a value is given out only when it is certain.

    Args:
        given: flat values of the parameters.
        typed: dotted names of the settings given by ``--params``.
        awaits_config: whether the run will make or load the config of a training.
    """

    def __init__(self, given: dict[str, Any], typed: Iterable[str] = (), *, awaits_config: bool) -> None:
        self._given, self._typed, self._certain = given, list(typed), not awaits_config
        self._config: dict[str, Any] = {}
        self._told: set[str] = set()

    def update(self, config: dict[str, Any], *, final: bool) -> bool:
        """Take the dict of a ``TrainingConfig``; ``final``: with what training chose. False: that is known already."""
        if self._certain:
            return False
        self._config = {FROM_SEARCH: self._config.get(FROM_SEARCH, {}), **config}
        self._certain = final
        return True

    @property
    def encoder(self) -> str | None:
        return self.values().get("training.model.encoder")

    def values(self) -> dict[str, Any]:
        """All settings: those used, where they are known, else those given."""
        return self._given | self._used()

    def new(self, *, at_end: bool = False) -> dict[str, Any]:
        """The certain settings that an earlier call did not return; at the end of a run all others, too."""
        doubtful = CHOSEN_LATER if self._config else tuple(f"training.{group}." for group in GROUPS)
        certain = self._certain or at_end
        found = {name: one for name, one in self.values().items() if certain or not name.startswith(doubtful)}
        new = {name: one for name, one in found.items() if name not in self._told}
        self._told |= set(new)
        return new

    def sources(self) -> dict[str, str]:
        """Tags ``source.<setting>``: from the command line, a search, or chosen by the training."""
        used = self._used()
        if used and "training.model.encoder" not in self._given:
            return {"source.training": "checkpoint"}
        found = {name: "command line" for name in self._typed if name in self._given}
        searched = {f"training.{name}" for name in self._config.get(FROM_SEARCH, {}).get("values", {})}
        for name, value in used.items():
            if name in searched or (name in CHOSEN_LATER and value != self._given.get(name)):
                by = "search" if name in searched else "chosen by the training"
                found[name] = f"{by} (parameters: {self._given.get(name)})"
        return {f"source.{name}": text for name, text in found.items()}

    def _used(self) -> dict[str, Any]:
        groups = (*GROUPS, "files") if self._config.get("files") else GROUPS
        values = flat({"training": {group: self._config[group] for group in groups if group in self._config}})
        return {name: one for name, one in values.items() if self._config and not name.startswith(ELSEWHERE)}


def name_of(env: str | None, pipelines: Iterable[str], encoder: str | None, begun: str) -> str:
    """Name of a run: environment, pipelines unless they are the default ones, encoder, time."""
    return " ".join(filter(None, (env or "base", "+".join(pipelines), encoder, begun)))
