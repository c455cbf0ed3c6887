"""Bar charts: images and scores per class, and memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator

from seg_pipeline.segmentation.plotting.row_panels import ROW_INCHES, bar_places, draw_bars, write_beside
from seg_pipeline.segmentation.plotting.style import grown, new_figure, styled, unit_colours

NO_MASK = "no mask"
MAX_CLASSES = 30
MAX_UPRIGHT = 6  # with more classes, or names too long for their bars, the bars are horizontal
DICE_DEPTH, IOU_DEPTH = 1.0, 0.45  # share of the class colour in a bar; the rest is white
LETTER_INCHES = 0.08


@styled
def plot_class_counts(counts: pd.DataFrame) -> Figure:
    """Number of images with each class, per split.

    ``counts`` has one row per class and one column per split. A last row "no mask", if present, counts the images
    without any class. With more than 30 classes, the most frequent are shown and the rest are summed in a note.
    """
    shown, note = _most_frequent(counts)
    num_splits = len(shown.columns)
    names = shown.index.tolist()
    upright = len(names) <= MAX_UPRIGHT and max(map(len, names)) * grown(LETTER_INCHES) < _group_inches(num_splits)
    figure = _bar_figure(len(shown), num_splits, upright=upright)
    axes = figure.subplots()
    colours = matplotlib.colormaps["cividis"](np.linspace(0.1, 0.85, num_splits))
    for index, (split, colour) in enumerate(zip(shown.columns, colours, strict=True)):
        values = shown[split].tolist()
        texts = [f"{value:,}" for value in values]
        draw_bars(axes, values, texts, index, num_splits, upright=upright, color=colour, label=split)
    _name_rows(axes, names, "images", upright=upright)
    axes.margins(x=None if upright else 0.12, y=0.12 if upright else None)  # room for the numbers
    number_axis = axes.yaxis if upright else axes.xaxis
    number_axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    number_axis.set_major_formatter("{x:,.0f}")
    figure.legend(loc="outside lower center", ncols=num_splits, title="split")
    axes.set_title(note)
    figure.suptitle("Images per class and split")
    return figure


def _most_frequent(counts: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Counts of the most frequent classes, and a note with the sum of the rest, as its bar would dwarf the others."""
    num_classes = len(counts) - (NO_MASK in counts.index)
    if num_classes <= MAX_CLASSES:
        return counts, ""
    ranks = np.argsort(-counts.iloc[:num_classes].sum(axis=1).to_numpy(), kind="stable")
    top, rest = counts.iloc[ranks[:MAX_CLASSES]], counts.iloc[ranks[MAX_CLASSES:]]
    sums = ", ".join(f"{split} {count:,}" for split, count in rest.sum().items())
    note = f"the {len(top)} most frequent of {num_classes} classes\nsum of the rest: {sums}"
    return pd.concat([top, counts.iloc[num_classes:]]), note


@styled
def plot_class_scores(scores: Mapping[str, Any]) -> Figure:
    """Dice and IoU per class, and their means.

    ``scores`` has the keys mean_dice, mean_iou, aggregation, empty_policy, num_images, and classes, which maps each
    class name to its dice and iou and, optionally, dice_interval and iou_interval (low, high), drawn as lines. None
    means that neither ground truth nor predictions have the class.
    """
    classes = scores["classes"]
    colours = unit_colours(len(classes))
    figure = _bar_figure(len(classes), 2, upright=False)
    axes = figure.subplots()
    for index, (measure, depth) in enumerate([("dice", DICE_DEPTH), ("iou", IOU_DEPTH)]):
        values = [_number(row[measure]) for row in classes.values()]
        texts = ["not in any image" if np.isnan(value) else f"{value:.3f}" for value in values]
        draw_bars(axes, np.nan_to_num(values), texts, index, 2, color=_lighten(colours, depth))
        _draw_intervals(axes, [row.get(f"{measure}_interval") for row in classes.values()], index, 2)
    lines = [
        _draw_mean(axes, "mean Dice", scores["mean_dice"], "-"),
        _draw_mean(axes, "mean IoU", scores["mean_iou"], ":"),
    ]
    _name_rows(axes, list(classes), "score (0 to 1)", upright=False)
    axes.set(xlim=(0, 1.12), xticks=np.linspace(0, 1, 6))  # room for the numbers
    bars = [
        Patch(color=str(_lighten(0.25, depth)), label=name)
        for name, depth in [("Dice", DICE_DEPTH), ("IoU", IOU_DEPTH)]
    ]
    figure.legend(handles=[*bars, *[line for line in lines if line]], loc="outside lower center", ncols=4)
    figure.suptitle("Dice and IoU by class")
    policies = f"aggregation: {scores['aggregation']}; empty policy: {scores['empty_policy']}"
    details = f"{scores['num_images']:,} images; {policies}"
    if scores.get("num_groups", 1) > 1:
        details += (
            f"\nline: {100 * scores['confidence']:.0f} % confidence interval over {scores['num_groups']:,} groups"
        )
    axes.set_title(details)
    return figure


def _draw_intervals(axes: Axes, intervals: Sequence[Sequence[float | None] | None], index: int, num_bars: int) -> None:
    """Draw the interval of each bar in series ``index`` and move the bar's text past it; None: no interval."""
    texts = axes.texts[-len(intervals) :]
    places, _ = bar_places(len(intervals), index, num_bars)
    for row, interval in enumerate(intervals):
        low, high = (_number(end) for end in interval or (None, None))
        if np.isfinite(low + high):
            place = places[row]
            axes.hlines(place, low, high, color="black", linewidth=1, zorder=3)
            axes.plot([low, high], [place, place], "|", color="black", markersize=4, zorder=3)
            label = cast(Annotation, texts[row])
            label.xy = (max(high, label.xy[0]), label.xy[1])


def _lighten(colours: Any, depth: float) -> Any:
    """Colours in 0..1, or a grey, mixed with white: ``depth`` 1 keeps the colour, 0 is white."""
    return 1 - depth * (1 - colours)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _draw_mean(axes: Axes, name: str, value: float | None, line: str) -> Line2D | None:
    """Draw a line at a mean; return None if the mean is undefined."""
    if value is None or not np.isfinite(value):
        return None
    label = f"{name} {value:.3f}"
    return axes.axvline(value, color="black", linestyle=line, linewidth=1, zorder=1.5, label=label)


def _group_inches(num_bars: int) -> float:
    return grown(num_bars * 0.45 + 0.3)  # a bar has the width of a six-digit number


def _bar_figure(num_rows: int, num_bars: int, *, upright: bool) -> Figure:
    if upright:
        return new_figure(max(5.0, 1.0 + num_rows * _group_inches(num_bars)), 3.6)
    return new_figure(7.0, 1.4 + num_rows * (num_bars + 0.7) * grown(ROW_INCHES))


def _name_rows(axes: Axes, names: list[str], unit: str, *, upright: bool) -> None:
    if upright:
        axes.set_xticks(range(len(names)), names)
        axes.set_ylabel(unit)
    else:
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)  # the first class on top
        axes.set_xlabel(unit)


@styled
def plot_memory(estimate: Mapping[str, Any], format_bytes: Callable[[float], str]) -> Figure:
    """Memory of the decoded images and masks by size and dtype, on a logarithmic scale.

    ``estimate`` comes from ``data.estimate_memory``; ``format_bytes`` formats a number of bytes.
    """
    bars = [
        (
            f"{size}, {dtype}",
            part["total"],
            f"images {format_bytes(part['images'])}, masks {format_bytes(part['masks'])}",
        )
        for size, parts in [("native size", estimate["native"]), (estimate["training_form"], estimate["training"])]
        for dtype, part in parts.items()
    ]
    figure = new_figure(grown(9.0), grown(3.4))
    axes = figure.subplots()
    totals = [total for _, total, _ in bars]
    axes.set(xscale="log", ylim=(len(bars) - 0.4, -0.6))
    axes.scatter(totals, range(len(bars)), s=45, color=["#0072B2"] * 3 + ["#56B4E9"] * 3, zorder=3)
    axes.grid(visible=True)
    write_beside(axes, [f"{format_bytes(total)}  ({parts})" for _, total, parts in bars])
    _draw_limits(axes, estimate, format_bytes)
    limits = [estimate["free_ram"], estimate["free_disk"], estimate["cache"]["limit"]]
    low, high = min(*totals, *limits) / 2, 2 * max(*totals, *limits)
    axes.set(xlim=(low, high), xticks=(ticks := _ticks(low, high)), xticklabels=[format_bytes(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
    figure.suptitle(f"Memory of {estimate['images']:,} decoded images with {estimate['classes']:,} classes")
    axes.set_title(estimate["cache"]["advice"].replace("; ", "\n"))
    return figure


def _draw_limits(axes: Axes, estimate: Mapping[str, Any], format_bytes: Callable[[float], str]) -> None:
    limits = [
        ("free RAM", estimate["free_ram"], "#D55E00", "-"),
        ("free disk", estimate["free_disk"], "black", "--"),
        ("cache limit", estimate["cache"]["limit"], "#009E73", ":"),
    ]
    for name, count, colour, line in limits:
        axes.axvline(count, color=colour, linestyle=line, label=f"{name} {format_bytes(count)}", zorder=1)
    axes.figure.legend(loc="outside lower center", ncols=3)


def _ticks(low: float, high: float) -> np.ndarray:
    """Axis ticks: about six powers of 2."""
    step = int(np.ceil(np.log2(high / low) / 6))
    return 2.0 ** np.arange(np.ceil(np.log2(low) / step) * step, np.log2(high), step)
