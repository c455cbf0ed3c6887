"""Files, values, pipelines and command of a run."""

import json
import shlex
from pathlib import Path
from typing import Any

from kedro.io import DataCatalog

from seg_pipeline.pipeline_registry import ORDER
from seg_pipeline.segmentation.settings.training_config import flat


def file_of(dataset: object) -> Path | None:
    """Path of a dataset; None if it has none, such as a MemoryDataset."""
    path = getattr(dataset, "_filepath", None) or getattr(dataset, "_path", None)
    return None if path is None else Path(path)


def value_of(name: str, catalog: DataCatalog) -> Any:
    """Content of a dataset; None if the catalog has none of this name."""
    dataset = catalog.get(name)  # not catalog.load, which logs a line
    return None if dataset is None else dataset.load()


def pipelines_of(run_params: dict[str, Any]) -> list[str]:
    """Requested pipelines in the order in which they run (Kedro shuffles them); empty for the default pipeline."""
    rank = {name: number for number, name in enumerate(ORDER)}
    return sorted(run_params.get("pipeline_names") or [], key=lambda name: (rank.get(name, len(ORDER)), name))


def command_for(pipeline: str, run_params: dict[str, Any]) -> str:
    """`kedro run` for one or several comma-separated pipelines, with this run's environment and parameters."""
    option = "--pipelines" if "," in pipeline else "--pipeline"
    command = "kedro run" if pipeline == "__default__" else f"kedro run {option} {pipeline}"
    if env := run_params.get("env"):
        command += f" --env {env}"
    if params := flat(run_params.get("runtime_params") or {}):
        command += " --params " + shlex.quote(",".join(f"{key}={_param_text(value)}" for key, value in params.items()))
    return command


def _param_text(value: Any) -> str:
    """A value as `--params` reads it: text unchanged, everything else as JSON, which is valid YAML."""
    if isinstance(value, str) and not ({",", '"'} & set(value)):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)


def duration(seconds: float) -> str:
    """Format seconds: 75.4 becomes "1 min 15 s"."""
    rounded = round(seconds)
    hours, minutes = rounded // 3600, rounded % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rounded % 60} s" if minutes else f"{seconds:.1f} s"
