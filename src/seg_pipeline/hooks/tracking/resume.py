"""Link an interrupted training to its tracked run, through a small file beside the checkpoint."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from seg_pipeline.hooks.run_info import file_of
from seg_pipeline.segmentation.storage.atomic import replacing

MAY_CHANGE = ("compute", "resume", "use_search_result")
"""Keys of `training` that may change when a training resumes."""


@dataclass
class TrackedTraining:
    """What a resumed training needs in order to log to the same run.

    Attributes:
        key: the run's key.
        settings: sha256 of all parameters that determine the training.
        logged: number of logged rows per curve.
        finished: whether the training is complete, so that the next one starts a new run.
        begun: start of the run in milliseconds since 1970.
    """

    key: str
    settings: str
    logged: dict[str, int] = field(default_factory=dict)
    finished: bool = False
    begun: int = 0

    def save(self, file: Path) -> None:
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")


def state_file(catalog: DataCatalog) -> Path | None:
    """``last.tracking.json`` beside ``last.pt``; None if the run writes no checkpoint."""
    checkpoint = file_of(catalog.get("last_checkpoint")) if "last_checkpoint" in catalog else None
    return None if checkpoint is None else checkpoint.with_suffix(".tracking.json")


def is_complete(last: dict[str, Any]) -> bool:
    """Whether a last checkpoint completes its training: all folds are trained to their last epoch.

    Kedro's ``after_node_run`` does not help here: for a generator node it is called before the first epoch.
    """
    return bool(last["current"]["finished"]) and len(last["models"]) + 1 == (last["folds"] or 1)


def settings_hash(values: dict[str, Any]) -> str:
    """Sha256 of the parameters that determine a training; ``values`` is keyed by top-level YAML key."""
    chosen = {name: values.get(name) for name in ("seed", "dataset", "scores", "training")}
    training = chosen["training"]
    if isinstance(training, dict):
        chosen["training"] = {key: value for key, value in training.items() if key not in MAY_CHANGE}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True, default=str).encode()).hexdigest()


def unfinished_training(pipeline: Pipeline, catalog: DataCatalog, values: dict[str, Any]) -> TrackedTraining | None:
    """The training that this run resumes: it has the same settings, and its checkpoint exists."""
    file = state_file(catalog)
    if file is None or "resume_from" not in pipeline.inputs() or not file.is_file():
        return None
    training = values.get("training")
    if not catalog["resume_from"].exists() or (isinstance(training, dict) and not training.get("resume", True)):
        return None
    try:
        training_run = TrackedTraining(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # damaged or from another version: start a new run
        return None
    return None if training_run.finished or training_run.settings != settings_hash(values) else training_run
