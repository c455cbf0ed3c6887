"""Data of the report's interactive charts, which ``chart.js`` draws so that readers can look up values."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from seg_pipeline.segmentation.plotting.class_panels import MAX_PANELS
from seg_pipeline.segmentation.plotting.style import class_colours
from seg_pipeline.segmentation.report.results import Results

MAX_POINTS = 3000
"""Points (one per image and class); with more, the static figure is shown instead."""
MEASURES = (
    ("Dice", "dice", "var(--train)"),
    ("precision", "precision", "var(--val)"),
    ("recall", "recall", "var(--soft)"),
)
UNIT = {"low": 0, "high": 1}
CURVES = (("dice", "Dice"), ("loss", "Loss"), ("pixel_accuracy", "Pixel accuracy"))


def chart_data(results: Results) -> dict[str, Markup]:
    """JSON of each chart that the results allow, by the name of the figure that it replaces."""
    panels_by_figure = {
        "training_curves": _curves(results),
        "object_size_chart": _object_sizes(results),
        "threshold_chart": _thresholds(results),
        "reliability_chart": _reliability(results),
        "object_scores_chart": _object_f1(results),
    }
    return {
        name: Markup(json.dumps({"panels": panels}, separators=(",", ":")).replace("<", "\\u003c"))
        for name, panels in panels_by_figure.items()
        if panels
    }


def _curves(results: Results) -> list[dict[str, Any]]:
    """Dice, loss, pixel accuracy and learning rate per epoch; none with folds, as each fold needs its own line."""
    history, best = results.training_history, results.best_epoch()
    if history is None or best is None or ("fold" in history and history["fold"].nunique() > 1):
        return []
    columns = [(title, {"train": f"train_{name}", "val": f"val_{name}"}) for name, title in CURVES]
    columns.append(("Learning rate", {"rate": "learning_rate"}))
    colours = {"train": "var(--train)", "val": "var(--val)", "rate": "var(--train)"}
    panels = []
    for title, names in columns:
        series = [
            {"name": name, "colour": colours[name], "points": history[["epoch", column]].dropna().to_numpy().tolist()}
            for name, column in names.items()
            if column in history
        ]
        if any(len(line["points"]) > 1 for line in series):
            y = {"label": title, "low": 0}
            panel = {"title": title, "lines": True, "mark": best["epoch"], "x": {"label": "epoch"}, "y": y}
            panels.append(panel | {"series": series})
    return panels


def _rows_by_class(table: pd.DataFrame | None, names: list[str], column: str) -> list[tuple[str, pd.DataFrame]]:
    """Per class, the rows with a value in ``column``; none if there are more classes than panels."""
    defined = None if table is None else table.dropna(subset=[column])
    parts = [] if defined is None else [(name, defined[defined["class"] == name]) for name in names]
    parts = [(name, part) for name, part in parts if len(part)]
    return parts if len(parts) <= MAX_PANELS else []


def _thresholds(results: Results) -> list[dict[str, Any]]:
    """Dice, precision and recall on validation images against the threshold, one panel per class."""
    thresholds = (results.postprocessing or {}).get("settings", {}).get("thresholds") or []
    chosen = dict(zip(results.classes, thresholds, strict=False))
    panels = []
    for name, part in _rows_by_class(results.threshold_curve, results.classes, "dice"):
        series = [
            {"name": title, "colour": colour, "points": part[["threshold", column]].dropna().to_numpy().tolist()}
            for title, column, colour in MEASURES
        ]
        lowest = float(np.nanmin(part[[column for _, column, _ in MEASURES]].to_numpy(dtype=float)))
        y = {"label": "score", "low": math.floor(10 * lowest) / 10, "high": 1}
        panel = {"title": name, "lines": True, "mark": chosen.get(name), "x": {"label": "threshold"} | UNIT, "y": y}
        panels.append(panel | {"series": series})
    return panels


def _reliability(results: Results) -> list[dict[str, Any]]:
    """Observed frequency against predicted probability, before and after calibration, one panel per class."""
    axes = {"x": {"label": "predicted probability"} | UNIT, "y": {"label": "observed frequency"} | UNIT}
    panels = []
    for name, part in _rows_by_class(results.reliability, results.classes, "frequency"):
        series: list[dict[str, Any]] = [
            {"name": "perfect", "colour": "var(--soft)", "dash": "4 4", "points": [[0, 0], [1, 1]]}
        ]
        for calibrated, rows in part.groupby("calibrated"):
            points = rows.sort_values("confidence")[["confidence", "frequency"]].to_numpy().tolist()
            before = not calibrated and part["calibrated"].any()
            style = ("before calibration", "var(--val)") if before else ("in use", "var(--train)")
            series.append(dict(zip(("name", "colour"), style, strict=True)) | {"points": points})
        panels.append({"title": name, "lines": True, **axes, "series": series})
    return panels


def _object_f1(results: Results) -> list[dict[str, Any]]:
    """F1 of objects against the IoU threshold of a match, one line per class."""
    scores = (results.test_scores or {}).get("classes", {})
    series = [
        {
            "name": name,
            "colour": f"#{bytes(colour).hex()}",
            "points": [
                [float(threshold), counts["f1"]]
                for threshold, counts in scores[name]["objects"]["by_threshold"].items()
                if counts["f1"] is not None
            ],
        }
        for name, colour in zip(results.classes, class_colours(len(results.classes)), strict=True)
        if "objects" in scores.get(name, {})
    ]
    axes = {"x": {"label": "IoU above which a pair matches"}, "y": {"label": "F1"} | UNIT}
    drawn = [line for line in series if line["points"]]
    return [{"title": "F1", "lines": True, **axes, "series": drawn}] if 0 < len(drawn) <= MAX_PANELS else []


def _object_sizes(results: Results) -> list[dict[str, Any]]:
    """Dice against the area in the ground truth, one panel per class and one point per image."""
    if results.image_scores is None:
        return []
    rows = results.image_scores.assign(area=lambda table: table["true_pos"] + table["false_neg"])
    rows, names = rows[rows["area"] > 0], results.classes
    if len(rows) > MAX_POINTS or not 0 < rows["class"].nunique() <= MAX_PANELS:
        return []
    axes: dict[str, Any] = {
        "x": {"label": "area in ground truth (pixels)", "log": True},
        "y": {"label": "Dice", "low": 0, "high": 1},
    }
    panels = []
    for name, colour in zip(names, class_colours(len(names)), strict=True):
        part = rows.loc[rows["class"] == name, ["area", "dice", "image_id"]]
        if len(part):
            series = {"name": name, "colour": f"#{bytes(colour).hex()}", "points": part.to_numpy().tolist()}
            panels.append({"title": name, **axes, "series": [series]})
    return panels
