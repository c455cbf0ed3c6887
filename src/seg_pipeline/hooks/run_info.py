"""Where things of a run are, in words for the user."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any


def file_of(dataset: object) -> Path | None:
    """Path that a dataset reads and writes; None for one without, such as a MemoryDataset."""
    place = getattr(dataset, "_filepath", None) or getattr(dataset, "_path", None)
    return None if place is None else Path(place)


def pipelines_of(run_params: dict[str, Any]) -> list[str]:
    """Names that the user gave, sorted, as Kedro shuffles them; none stands for the default pipeline."""
    return sorted(run_params.get("pipeline_names") or [])


def command_for(pipeline: str, run_params: dict[str, Any]) -> str:
    """`kedro run` of a pipeline, or several with commas between, with environment and parameters of this run.

    Lists cannot be given by `--params`: they come from the user's file, with all that was given besides.
    """
    option = "--pipelines" if "," in pipeline else "--pipeline"
    command = "kedro run" if pipeline == "__default__" else f"kedro run {option} {pipeline}"
    if env := run_params.get("env"):
        command += f" --env {env}"
    given = flat(run_params.get("runtime_params") or {})
    if any(isinstance(value, (list, tuple)) for value in given.values()):
        command += " --config FILE"
    elif given:
        command += " --params " + shlex.quote(",".join(f"{key}={value}" for key, value in given.items()))
    return command


def flat(nested: dict[str, Any], *, joint: str = ".") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    result: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            result |= {f"{key}{joint}{below}": deep for below, deep in flat(value, joint=joint).items()}
        else:
            result[str(key)] = value
    return result
