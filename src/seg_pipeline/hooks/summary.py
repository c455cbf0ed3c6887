"""Print a summary after a run: scores, findings, exports, predictions, report, files and tracked runs."""

from __future__ import annotations

import math
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from seg_pipeline.hooks.run_info import duration, file_of, pipelines_of
from seg_pipeline.hooks.tracking import TrackingHooks

if TYPE_CHECKING:
    import pandas as pd

    from seg_pipeline.segmentation.prediction.bundle import Bundle

MAX_CLASSES = 12
MAX_RULES = 8
MAX_REASONS = 3
MAX_FILES = 8
"""Files listed per folder; if there are more, these kinds of files are only counted:"""
COUNTED_FILES = {"figure": (".gif", ".mp4", ".png"), "table": (".parquet",)}


class SummaryHooks:
    """Load the results from the catalog, because with a ParallelRunner other processes saved them."""

    def __init__(self, tracking: TrackingHooks | None = None) -> None:
        self._tracking = tracking
        self._started = 0.0

    @hook_impl
    def before_pipeline_run(self) -> None:
        self._started = time.monotonic()

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        names = ", ".join(pipelines_of(run_params)) or "default"
        env = f" in environment {run_params['env']}" if run_params.get("env") else ""
        project = Path(run_params["project_path"])
        lines = [f"Pipeline {names}{env}: finished in {duration(time.monotonic() - self._started)}"]
        outputs = {name: catalog.get(name) for name in sorted(pipeline.all_outputs())}
        for title, name, describe in (
            ("scores", "test_scores", score_lines),
            ("findings", "findings", finding_lines),
            ("export", "bundle", lambda bundle: bundle_lines(bundle, project)),
        ):
            dataset = outputs.get(name)
            if dataset is not None and dataset.exists():
                lines += _block(title, describe(dataset.load()))
        if "inference.inference_areas" in outputs:
            lines += _block("inference", _inference_lines(catalog, project))
        if "report" in outputs:
            lines += _block("report", [f"{_relative(project, file_of(outputs['report']))}: open it in a browser"])
        files = [file for dataset in outputs.values() if (file := file_of(dataset)) and file.exists()]
        lines += _block("files", file_lines(files, project))
        if self._tracking is not None and self._tracking.where:
            lines += _block("tracked", self._tracking.where.splitlines())
        click.echo("\n" + "\n".join(lines) + "\n")


def score_lines(scores: dict[str, Any]) -> Iterator[str]:
    """The mean scores with their aggregation, then one line per class."""
    yield (
        f"mean Dice {_score(scores.get('mean_dice'))}, mean IoU {_score(scores.get('mean_iou'))} "
        f"over {scores.get('num_images')} images "
        f"(aggregation: {scores.get('aggregation')}, empty policy: {scores.get('empty_policy')})"
    )
    classes = scores.get("classes", {})
    width = max(map(len, classes), default=0)
    for name, class_scores in list(classes.items())[:MAX_CLASSES]:
        number = class_scores.get("num_images", scores.get("num_images"))
        where = f"  in {number} of them" if number != scores.get("num_images") else ""
        yield f"  {name:{width}}  Dice {_score(class_scores.get('dice'))}  IoU {_score(class_scores.get('iou'))}{where}"
    if len(classes) > MAX_CLASSES:
        yield f"  and {len(classes) - MAX_CLASSES} more classes"


def finding_lines(findings: pd.DataFrame) -> Iterator[str]:
    """Number of findings per rule and action, most frequent first."""
    if findings.empty:
        yield "none; all inputs are valid"
        return
    actions = Counter(findings["action"]).most_common()
    yield f"{len(findings)}: " + ", ".join(f"{count} {action}" for action, count in actions)
    counts = Counter(zip(findings["rule"], findings["action"], strict=True))
    shown = counts.most_common(MAX_RULES)
    width = max(len(rule) for (rule, _), _ in shown)
    yield from (f"  {rule:{width}}  {count} {action}" for (rule, action), count in shown)
    if len(counts) > MAX_RULES:
        yield f"  and {len(counts) - MAX_RULES} more rules"


def bundle_lines(bundle: Bundle, project: Path) -> Iterator[str]:
    """Where the exported model is, the size of each format, and the command that uses it."""
    folder = _relative(project, bundle.folder)
    sizes = {name: sum(network.files[name].bytes for network in bundle.networks) for name in bundle.formats}
    yield f"{folder}: " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
    yield f"use it:   seg-pipeline predict IMAGES --model {folder} --out masks"
    yield f"serve it: seg-pipeline serve --model {folder}"


def _inference_lines(catalog: DataCatalog, project: Path) -> Iterator[str]:
    areas, findings = (catalog[f"inference.inference_{name}"].load() for name in ("areas", "findings"))
    params = catalog["params:inference"].load()
    folder = Path(params.output_folder or catalog["inference.inference_folder"].load())
    predicted = areas["image_id"].nunique()
    formats = ", ".join(params.formats)
    yield f"{predicted} of {predicted + len(findings)} images predicted -> {_relative(project, folder)} ({formats})"
    yield from unpredicted_lines(findings)


def unpredicted_lines(findings: pd.DataFrame) -> Iterator[str]:
    """How many images could not be predicted, and the reasons."""
    if findings.empty:
        return
    yield f"{len(findings)} image{'s' * (len(findings) > 1)} could not be predicted:"
    reasons = findings["reason"].tolist()
    yield from (f"  {reason}" for reason in reasons[:MAX_REASONS])
    if len(reasons) > MAX_REASONS:
        yield f"  and {len(reasons) - MAX_REASONS} more, listed in findings.csv beside the masks"


def file_lines(files: list[Path], project: Path) -> Iterator[str]:
    """All files of the run, one line per folder, relative to the project."""
    folders: dict[Path, set[str]] = {}
    for file in files:
        folders.setdefault(file.parent, set()).add(file.name)
    for folder, names in sorted(folders.items()):
        text = f"{_relative(project, folder)}: {', '.join(_short_list(names))}"
        yield from textwrap.wrap(text, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _short_list(names: set[str]) -> Iterator[str]:
    if len(names) <= MAX_FILES:
        yield from sorted(names)
        return
    by_kind = {kind: {name for name in names if name.endswith(endings)} for kind, endings in COUNTED_FILES.items()}
    yield from sorted(names.difference(*by_kind.values()))
    yield from (f"{len(files)} {kind}{'s' * (len(files) > 1)}" for kind, files in by_kind.items() if files)


def _relative(project: Path, file: Path | None) -> str:
    """The path relative to the project folder."""
    return "" if file is None else (file.relative_to(project) if file.is_relative_to(project) else file).as_posix()


def _block(title: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    """The lines, with the title in a column to the left of the first."""
    for number, line in enumerate(lines):
        # click drops the style outside a terminal.
        yield "  " + click.style(f"{'' if number else title:10}", bold=True) + line


def _score(value: float | None) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{value:.3f}"
