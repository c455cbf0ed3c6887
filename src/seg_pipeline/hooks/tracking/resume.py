"""Which run an unfinished training belongs to: a small file beside its checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from seg_pipeline.hooks.run_info import file_of

FREE = ("compute", "resume", "use_search_result")
"""Keys of `training` that a resumed training may change."""


@dataclass
class Continuation:
    """
    Attributes:
        key: of the run.
        settings: sha256 of all parameters that determine a training.
        logged: rows of each curve that are logged, by its name.
    """

    key: str
    settings: str
    logged: dict[str, int] = field(default_factory=dict)
    finished: bool = False

    def save(self, file: Path) -> None:
        new = file.with_name(f"{file.name}.tmp")
        new.write_text(json.dumps(asdict(self)), encoding="utf-8")
        os.replace(new, file)  # noqa: PTH105  Path.replace, by the name that says what it is for


def place_of(catalog: DataCatalog) -> Path | None:
    """data/06_models/last.tracking.json beside last.pt."""
    checkpoint = file_of(catalog.get("last_checkpoint")) if "last_checkpoint" in catalog else None
    return None if checkpoint is None else checkpoint.with_suffix(".tracking.json")


def is_whole(last: dict[str, Any]) -> bool:
    """Whether a training that saves this (``training.Saved.last``) has ended: its last model's last epoch is in it.

    Kedro's ``after_node_run`` cannot tell: it is called before a node that yields has yielded.
    """
    return bool(last["current"]["finished"]) and len(last["members"]) + 1 == (last["folds"] or 1)


def settings_of(values: dict[str, Any]) -> str:
    """Sha256 of the parameters (by top-level key) as far as they determine a training."""
    chosen = {name: values.get(name) for name in ("seed", "dataset", "scores", "training")}
    training = chosen["training"]
    if isinstance(training, dict):
        chosen["training"] = {key: value for key, value in training.items() if key not in FREE}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode()).hexdigest()


def unfinished(pipeline: Pipeline, catalog: DataCatalog, values: dict[str, Any]) -> Continuation | None:
    """The run that this one goes on with: it trains, has the same settings, and the checkpoint is there."""
    place = place_of(catalog)
    if place is None or "resume_from" not in pipeline.inputs() or not place.is_file():
        return None
    training = values.get("training")
    if not catalog["resume_from"].exists() or (isinstance(training, dict) and not training.get("resume", True)):
        return None
    try:
        found = Continuation(**json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # damaged, or of another version: a new run then
        return None
    return None if found.finished or found.settings != settings_of(values) else found
