"""Data of the charts that ``chart.js`` draws in the report, so that their values can be read."""

import json
from typing import Any

from markupsafe import Markup

from seg_pipeline.segmentation.plotting.class_panels import MAX_PANELS
from seg_pipeline.segmentation.plotting.style import class_colours
from seg_pipeline.segmentation.report.results import Results

MOST_POINTS = 3000
"""Images and classes; with more, the picture of the figure is shown instead."""
CURVES = (("dice", "Dice"), ("loss", "Loss"), ("pixel_accuracy", "Pixel accuracy"))


def chart_data(results: Results) -> dict[str, Markup]:
    """JSON of each chart that can be drawn from the results, by the name of the figure that it replaces."""
    found = {"training_curves": _curves(results), "object_size_chart": _object_sizes(results)}
    return {
        name: Markup(json.dumps({"panels": panels}, separators=(",", ":")).replace("<", "\\u003c"))
        for name, panels in found.items()
        if panels
    }


def _curves(results: Results) -> list[dict[str, Any]]:
    """Dice, loss, pixel accuracy and learning rate per epoch; none with folds, which have a line each."""
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
        if any(len(one["points"]) > 1 for one in series):
            y = {"label": title, "low": 0}
            about = {"title": title, "lines": True, "mark": best["epoch"], "x": {"label": "epoch"}, "y": y}
            panels.append(about | {"series": series})
    return panels


def _object_sizes(results: Results) -> list[dict[str, Any]]:
    """Dice against the area in the ground truth, one panel per class and one point per image."""
    if results.image_scores is None:
        return []
    rows = results.image_scores.assign(area=lambda table: table["true_pos"] + table["false_neg"])
    rows, names = rows[rows["area"] > 0], results.classes
    if len(rows) > MOST_POINTS or not 0 < rows["class"].nunique() <= MAX_PANELS:
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
