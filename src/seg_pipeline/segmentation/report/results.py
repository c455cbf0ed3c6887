"""The outputs of a run that the report and the model card read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.manifest.table import class_names


@dataclass(frozen=True, kw_only=True)
class Results:
    """The outputs of a run, named as in the catalog (without the pipeline's namespace); None if a pipeline has not run.

    Attributes:
        run_command: `kedro run` with the environment and parameters of this run.
        checkpoint_sha256: hash and file name, as ``sha256sum`` prints them.
        other_predictions: predictions of the run that this one is compared with.
        figures: bytes of the PNG by catalog name.
    """

    manifest: pd.DataFrame
    findings: pd.DataFrame
    run_command: str
    training_config: dict | None = None
    checkpoint_sha256: str | None = None
    best_hyperparameters: dict | None = None
    training_history: pd.DataFrame | None = None
    postprocessing: dict | None = None
    test_scores: dict | None = None
    image_scores: pd.DataFrame | None = None
    predictions: pd.DataFrame | None = None
    threshold_curve: pd.DataFrame | None = None
    reliability: pd.DataFrame | None = None
    comparison: pd.DataFrame | None = None
    other_predictions: pd.DataFrame | None = None
    reader_agreement: dict | None = None
    annotator_agreement: pd.DataFrame | None = None
    figures: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, Any]) -> Results:
        """From outputs by catalog name; those that are not a field are figures (None if not drawn)."""
        names = {one.name for one in fields(cls)} - {"figures"}
        figures = {name: value for name, value in outputs.items() if name not in names and value is not None}
        return cls(**{name: value for name, value in outputs.items() if name in names}, figures=figures)

    @cached_property
    def classes(self) -> list[str]:
        return class_names(self.manifest)

    @cached_property
    def num_groups(self) -> int:
        """Number of groups in the test split."""
        test = self.manifest[self.manifest["split"] == "test"]
        return int((self.test_scores or {}).get("num_groups") or test["group"].nunique())

    def best_epoch(self) -> dict | None:
        """The first row of the history with the highest validation Dice; None if there is none."""
        if self.training_history is None or not self.training_history["val_dice"].notna().any():
            return None
        return self.training_history.iloc[int(self.training_history["val_dice"].argmax())].to_dict()

    def command(self, pipeline: str) -> str:
        """The command that runs one pipeline with the same environment and parameters."""
        return f"kedro run --pipeline {pipeline}" + self.run_command.removeprefix("kedro run")

    def missing(self) -> list[str]:
        """One sentence per pipeline that has not run, with the command to run it."""
        parts = [
            (
                self.best_hyperparameters,
                "No hyperparameter search was run, so the settings come from the parameters",
                "hparam_search",
            ),
            (self.training_history, "No model has been trained", "training"),
            (self.test_scores, "No model has been scored", "evaluation"),
        ]
        return [
            f"{sentence}. Run `{self.command(pipeline)}`." for output, sentence, pipeline in parts if output is None
        ]


def score(value: float | None, digits: int = 3) -> str:
    """A rounded score, or "undefined" for None and NaN."""
    return "undefined" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval(pair: Any, digits: int = 3) -> str:
    """ "0.81 to 0.90"; "" if there is no interval."""
    if pair is None or any(one is None or math.isnan(one) for one in pair):
        return ""
    return f"{pair[0]:.{digits}f} to {pair[1]:.{digits}f}"


def plural(number: int, word: str) -> str:
    """ "1 image", "2,000 images", "3 classes", "4 series"."""
    ending = "" if number == 1 or word == "series" else "es" if word.endswith("s") else "s"
    return f"{number:,} {word}{ending}"


def join_words(words: list[str], limit: int = 8) -> str:
    """ "a, b and 3 more"."""
    shown = ", ".join(words[:limit])
    return shown if len(words) <= limit else f"{shown} and {len(words) - limit} more"
