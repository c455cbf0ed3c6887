"""The settings that a run used, by their key in YAML, and the source of those that are not from conf/."""

from collections.abc import Iterable
from typing import Any

from seg_pipeline.segmentation.settings.training_config import FROM_SEARCH, GROUPS, flat

CHOSEN_BY_TRAINING = ("training.sampling.batch_size", "training.input.statistics", "training.loss.class_weights")
"""Settings that training replaces once it knows data and device; see ``training/auto_settings.py``."""
DUPLICATE = "training.input.reading"
"""Copy of `dataset.reading`, not logged again."""


class UsedSettings:
    """The parameters of a run, with the training settings that it really used once they are known.

    Stores such as mlflow keep the first value of a parameter, so a value is returned only once it is final.

    Args:
        configured: flat values of the parameters.
        from_command_line: dotted names of the settings in ``--params``.
        awaits_config: whether the run will make or load a training config.
    """

    def __init__(
        self, configured: dict[str, Any], from_command_line: Iterable[str] = (), *, awaits_config: bool
    ) -> None:
        self._configured, self._from_command_line = configured, list(from_command_line)
        self._final = not awaits_config
        self._config: dict[str, Any] = {}
        self._returned: set[str] = set()

    def update(self, config: dict[str, Any], *, final: bool) -> bool:
        """Set the dict of a ``TrainingConfig``; ``final``: training has made its choices. False if already final."""
        if self._final:
            return False
        self._config = {FROM_SEARCH: self._config.get(FROM_SEARCH, {}), **config}
        self._final = final
        return True

    @property
    def encoder(self) -> str | None:
        return self.values().get("training.model.encoder")

    def values(self) -> dict[str, Any]:
        """All settings: as used if that is known, else as configured."""
        return self._configured | self._used()

    def new(self, *, at_end: bool = False) -> dict[str, Any]:
        """The final settings that no earlier call returned; at the end of a run, all the others too."""
        not_final = CHOSEN_BY_TRAINING if self._config else tuple(f"training.{group}." for group in GROUPS)
        all_final = self._final or at_end
        final = {name: value for name, value in self.values().items() if all_final or not name.startswith(not_final)}
        new = {name: value for name, value in final.items() if name not in self._returned}
        self._returned |= set(new)
        return new

    def sources(self) -> dict[str, str]:
        """Tags ``source.<setting>``: from the command line, a search, or chosen by the training."""
        used = self._used()
        if used and "training.model.encoder" not in self._configured:
            return {"source.training": "checkpoint"}
        sources = {name: "command line" for name in self._from_command_line if name in self._configured}
        from_search = {f"training.{name}" for name in self._config.get(FROM_SEARCH, {}).get("values", {})}
        for name, value in used.items():
            if name in from_search or (name in CHOSEN_BY_TRAINING and value != self._configured.get(name)):
                source = "search" if name in from_search else "chosen by the training"
                sources[name] = f"{source} (parameters: {self._configured.get(name)})"
        return {f"source.{name}": text for name, text in sources.items()}

    def _used(self) -> dict[str, Any]:
        groups = (*GROUPS, "files") if self._config.get("files") else GROUPS
        values = flat({"training": {group: self._config[group] for group in groups if group in self._config}})
        return {name: value for name, value in values.items() if self._config and not name.startswith(DUPLICATE)}


def run_name(env: str | None, pipelines: Iterable[str], encoder: str | None, start: str) -> str:
    """Name of a run: environment, pipelines unless default, encoder, start time."""
    return " ".join(filter(None, (env or "base", "+".join(pipelines), encoder, start)))
