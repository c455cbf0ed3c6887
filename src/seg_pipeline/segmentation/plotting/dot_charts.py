"""Charts with one row per group, postprocessing step, prediction option, or class compared between two runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from seg_pipeline.segmentation.plotting.row_panels import (
    GREY,
    add_legend,
    add_note,
    bar_places,
    row_panels,
    write_beside,
)
from seg_pipeline.segmentation.plotting.style import grown, new_figure, styled, unit_colours

MAX_ROWS = 40
MARKERS = "osD^vP"
"""One marker per class, so that colour is not the only difference; more classes are drawn as range and mean."""


@styled
def plot_group_scores(rows: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Dice per group, worst group first: mean and range over the classes, and each class if there are few.

    ``rows`` has one row per group and class: group, class, dice; ``names`` are all classes in channel order.
    """
    table = rows.pivot(index="group", columns="class", values="dice").reindex(columns=list(names))
    order = table.mean(axis=1).sort_values(kind="stable").dropna().index
    shown = table.loc[order[:MAX_ROWS]]
    figure, (axes,) = row_panels([str(name) for name in shown.index], [7.0], extra=1.5)
    places = np.arange(len(shown))
    axes.hlines(places, shown.min(axis=1), shown.max(axis=1), color="0.75", linewidth=4, zorder=1)
    handles = _draw_classes(axes, shown) if len(names) <= len(MARKERS) else []
    axes.plot(shown.mean(axis=1), places, "|", color="black", markersize=11, markeredgewidth=2, zorder=4)
    mean = Line2D([], [], color="black", marker="|", linestyle="", markersize=9, markeredgewidth=2, label="mean")
    axes.set(xlim=(-0.02, 1.02), xticks=np.linspace(0, 1, 6), xlabel="Dice (0 to 1)")
    axes.grid(visible=True, axis="x")
    figure.suptitle("Dice by group, worst first")
    omitted = f"; {len(order) - len(shown):,} better groups are not shown" if len(order) > len(shown) else ""
    add_legend(figure, [*handles, mean], f"bar: range over the classes{omitted}")
    return figure


def _draw_classes(axes: Axes, table: pd.DataFrame) -> list[Line2D]:
    handles = []
    for index, (name, colour) in enumerate(zip(table.columns, unit_colours(table.shape[1]), strict=True)):
        style = {"color": colour, "marker": MARKERS[index], "markeredgecolor": GREY, "markeredgewidth": 0.6}
        axes.plot(table[name], np.arange(len(table)), linestyle="", markersize=6, zorder=3, **style)
        handles.append(Line2D([], [], linestyle="", markersize=6, label=str(name), **style))
    return handles


@styled
def plot_postprocessing_gains(gains: pd.DataFrame) -> Figure:
    """Validation Dice before and after each postprocessing step, largest gain first; steps that were kept are filled.

    ``gains`` has one row per step and class: step, class, value, dice_before, dice_after, gain_interval, kept.
    """
    gain = gains["dice_after"] - gains["dice_before"]
    order = gain.fillna(-1).sort_values(ascending=False, kind="stable").index
    shown = gains.loc[order[:MAX_ROWS]]
    labels = [f"{row['class']}: {row['step']} {_value_text(row['value'])}" for row in shown.to_dict("records")]
    figure, (axes,) = row_panels(labels, [7.0], extra=1.5)
    for place, row in enumerate(shown.to_dict("records")):
        before, after = row["dice_before"], row["dice_after"]
        axes.plot([before, after], [place, place], color=GREY, linewidth=1.2, zorder=1)
        axes.plot(before, place, "|", color="black", markersize=9, zorder=2)
        face = "black" if row["kept"] else "white"
        axes.plot(after, place, "o", markerfacecolor=face, markeredgecolor="black", markersize=5.5, zorder=3)
    write_beside(axes, [_outcome_text(row) for row in shown.to_dict("records")])
    objects = gains["step"].str.startswith("object_").any()
    axes.set_xlabel(f"Dice{' (of objects: F1)' if objects else ''} on the validation split")
    axes.grid(visible=True, axis="x")
    figure.suptitle("Postprocessing: validation Dice before and after each step")
    omitted = f"; {len(gains) - len(shown):,} more steps are not shown" if len(gains) > len(shown) else ""
    add_note(figure, f"line: before, circle: after (filled: kept){omitted}")
    return figure


def _outcome_text(row: dict) -> str:
    """The gain of a step, and whether it was kept, or why not."""
    low = (row["gain_interval"] or [None])[0]
    reason = (
        "" if low is None or pd.isna(low) else ": the interval contains 0" if low <= 0 else ": the gain is too small"
    )
    gain = round(row["dice_after"] - row["dice_before"], 4) + 0.0  # never -0.0
    return f"{gain:+.4f}{_interval_text(row['gain_interval'])} {'kept' if row['kept'] else f'not kept{reason}'}"


def _value_text(value: Any) -> str:
    """The value of a step without trailing zeros; "" if the step is only on or off."""
    if isinstance(value, bool | np.bool_) or pd.isna(value):
        return ""
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def _interval_text(interval: Sequence[float | None] | None) -> str:
    """ " (+0.0100 to +0.0200)"; "" if there is no interval."""
    if interval is None or any(pd.isna(end) for end in interval):
        return ""
    return f" ({interval[0]:+.4f} to {interval[1]:+.4f})"


@styled
def plot_prediction_options(options: pd.DataFrame) -> Figure:
    """Validation score and time per image of each prediction option; the option in use is marked.

    ``options`` has one row per option: option, measure, score, gain, gain_low, gain_high, seconds_per_image, cost
    (multiple of plain prediction), used.
    """
    marks = ["\u25b6 " if used else "" for used in options["used"]]
    labels = [f"{mark}{name}" for mark, name in zip(marks, options["option"], strict=True)]
    figure = new_figure(grown(9.6), grown(1.5 + 0.34 * len(options)))
    score, cost = figure.subplots(1, 2, sharey=True, width_ratios=[1.2, 1])
    greys = ["0.3" if used else "0.65" for used in options["used"]]
    gains = [_gain_text(row) for row in options.to_dict("records")]
    times = [
        f"{ratio:.1f}x, {f'{1000 * seconds:,.0f}' if seconds > 0.1 else f'{1000 * seconds:.3g}'} ms"
        for ratio, seconds in options[["cost", "seconds_per_image"]].to_numpy()
    ]
    for axes, values, texts in [(score, options["score"], gains), (cost, options["cost"], times)]:
        places, thickness = bar_places(len(options), 0, 1)
        axes.barh(places, values.fillna(0), thickness, color=greys)
        axes.grid(visible=True, axis="x")
        write_beside(axes, texts)
    measure = options["measure"].iloc[0]
    score.set(title=f"{measure} on validation images", xlim=(0, 1), ylim=(len(options) - 0.5, -0.5))
    score.set_yticks(range(len(options)), labels)
    cost.set(title="Time per image (plain: 1)", xlim=(0, max(float(options["cost"].max()), 1)))
    figure.suptitle(f"Prediction options: {measure} and time per image")
    add_note(figure, "\u25b6: in use")
    return figure


def _gain_text(option: dict) -> str:
    """The score, and the gain over plain prediction if there is one."""
    if not option["gain"]:
        return f"{option['score']:.3f}"
    return (
        f"{option['score']:.3f}, gain {option['gain']:+.4f}{_interval_text([option['gain_low'], option['gain_high']])}"
    )


@styled
def plot_comparison(summary: pd.DataFrame, *, title: str) -> Figure:
    """Difference in Dice between two runs per class, with its interval; the marker shows the verdict.

    ``summary`` is from ``metrics.summarise``; ``title`` names the two runs.
    """
    shown = summary.head(MAX_ROWS)
    labels = [f"{row['class']} ({row['num_images']:,})" for row in shown.to_dict("records")]
    figure, (axes,) = row_panels(labels, [7.0], extra=1.5)
    axes.axvline(0, color="black", linewidth=1)
    for place, row in enumerate(shown.to_dict("records")):
        marker, colour = {"better": (">", "#0072B2"), "worse": ("<", "#D55E00")}.get(row["verdict"], ("o", "0.5"))
        axes.hlines(place, row["low"], row["high"], color=colour, linewidth=2)
        axes.plot(row["difference"], place, marker, color=colour, markersize=7)
    write_beside(axes, [f"{row['difference']:+.3f} {row['verdict']}" for row in shown.to_dict("records")])
    widest = np.nanmax(np.abs(shown[["difference", "low", "high"]].to_numpy(dtype=float)))
    axes.set(xlim=(-1.1 * widest or -1, 1.1 * widest or 1), xlabel="Dice of this run minus Dice of the other run")
    axes.grid(visible=True, axis="x")
    figure.suptitle(title)
    omitted = f"; {len(summary) - len(shown):,} more classes are in the table" if len(summary) > len(shown) else ""
    add_note(figure, f"class (images); line: 95 % confidence interval over groups{omitted}")
    return figure
