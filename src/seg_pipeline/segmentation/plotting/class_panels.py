"""One small panel per class: Dice by object size, threshold curves, reliability.

Each panel is titled with its class and drawn in the colour of the class. Lines also differ in their pattern, so that
the figure can be read without colour. ``names`` are all classes, in channel order, which determines their colours.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from seg_pipeline.segmentation.plotting.row_panels import add_legend, add_note
from seg_pipeline.segmentation.plotting.style import grown, new_figure, styled, unit_colours

MAX_PANELS = 12
MAX_COLUMNS = 4
PANEL_INCHES = 2.1
MAX_POINTS = 2000
"""Points per panel; with more, a sample spread evenly over the sizes is shown."""
NUM_BANDS = 6
"""Size bands with equal numbers of images, whose medians are drawn."""
UNIT = (-0.03, 1.06)
MAX_TICKS = 4


@styled
def plot_object_sizes(rows: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Dice per image against the area of the class, with the median of six size bands.

    ``rows`` has one row per image and class: class, dice, true_pos, false_neg. Rows without ground truth are left out.
    """
    area = rows["true_pos"] + rows["false_neg"]
    shown = rows.assign(area=area)[area > 0]
    figure, panels, note = class_panels(shown, names)
    for name, (axes, colour) in panels.items():
        part = shown[shown["class"] == name].sort_values("area")
        points = part.iloc[np.unique(np.linspace(0, len(part) - 1, MAX_POINTS).round().astype(int))]
        axes.scatter(points["area"], points["dice"], s=9, color=colour, edgecolor="0.35", linewidth=0.3)
        _draw_bands(axes, part)
        axes.set(xscale="log", ylim=UNIT, xlabel="area in ground truth (pixels)")
        _label_areas(axes)
    figure.suptitle("Dice against object size")
    add_note(figure, note, "point: one image; black: median Dice of each sixth of the images, sorted by area")
    return figure


def _label_areas(axes: Axes) -> None:
    """Label at most four ticks, at round numbers."""
    low, high = axes.get_xlim()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [step * 10.0**power for power in decades for step in (1, 1.5, 2, 3, 5, 7)]
    ticks = [value for value in inside if low <= value <= high]
    powers = [value for value in ticks if math.log10(value).is_integer()]
    ticks = powers if len(powers) > 2 else ticks
    stride = math.ceil(len(ticks) / MAX_TICKS)
    axes.set_xticks(ticks[::stride], [f"{value:,g}" for value in ticks[::stride]])
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_bands(axes: Axes, part: pd.DataFrame) -> None:
    """Draw median Dice against median area per band; fewer bands if one would hold fewer than two images."""
    number = max(1, min(NUM_BANDS, len(part) // 2))
    bands = part.groupby(np.arange(len(part)) * number // max(len(part), 1))[["area", "dice"]].median()
    axes.plot(bands["area"], bands["dice"], color="black", marker="s", markersize=3, linewidth=1.2)


@styled
def plot_thresholds(curve: pd.DataFrame, names: Sequence[str], chosen: Mapping[str, float]) -> Figure:
    """Dice, precision and recall on validation images against the threshold, per class.

    ``curve`` has one row per class and threshold: class, threshold, dice, precision, recall; ``chosen`` has the
    threshold in use per class.
    """
    figure, panels, note = class_panels(curve, names)
    for name, (axes, colour) in panels.items():
        part = curve[curve["class"] == name].sort_values("threshold")
        axes.plot(part["threshold"], part["dice"], color=colour, linewidth=2.2, label="Dice")
        axes.plot(part["threshold"], part["precision"], color="0.25", linestyle="--", linewidth=1, label="precision")
        axes.plot(part["threshold"], part["recall"], color="0.25", linestyle=":", linewidth=1.2, label="recall")
        if name in chosen:
            axes.axvline(chosen[name], color="black", linewidth=0.8, label="in use")
            axes.set_title(f"{name}\nin use: {chosen[name]:.2f}")
        axes.set(xlim=UNIT, xlabel="threshold")
    lowest = float(np.nanmin(curve[["dice", "precision", "recall"]].to_numpy(dtype=float)))
    axes, _ = next(iter(panels.values()))
    axes.set_ylim(math.floor(10 * lowest) / 10 - 0.01 if lowest > 0 else UNIT[0], 1.01)  # shared by all panels
    dice = Line2D([], [], color="black", linewidth=2.2, label="Dice, in the colour of the class")
    figure.suptitle("Dice, precision and recall against the threshold (validation images)")
    add_legend(figure, [dice, *axes.get_legend_handles_labels()[0][1:]], note)
    return figure


@styled
def plot_reliability(bins: pd.DataFrame, names: Sequence[str], errors: Mapping[str, float | None]) -> Figure:
    """Observed frequency against predicted probability, per class; on the diagonal the model is calibrated.

    ``bins`` has one row per class and bin, before and after calibration: class, confidence (mean predicted
    probability), frequency (observed share of the class), pixels, calibrated; ``errors`` has the expected calibration
    error (ECE) per class, of the probabilities in use.
    """
    figure, panels, note = class_panels(bins.dropna(subset=["frequency"]), names, unit="observed frequency")
    final = bins["calibrated"].any()
    for name, (axes, colour) in panels.items():
        class_bins = bins[(bins["class"] == name) & (bins["pixels"] > 0)].sort_values("confidence")
        part, before = class_bins[class_bins["calibrated"] == final], class_bins[~class_bins["calibrated"]]
        axes.plot([0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, label="perfect")
        if final:
            axes.plot(before["confidence"], before["frequency"], color="0.25", linestyle=":", linewidth=1.2)
        axes.plot(part["confidence"], part["frequency"], color=colour, linewidth=1.5, zorder=2)
        sizes = 12 + 70 * (part["pixels"] / max(part["pixels"].max(), 1)) ** 0.25
        axes.scatter(part["confidence"], part["frequency"], s=sizes, color=colour, edgecolor="0.25", zorder=3)
        if errors.get(name) is not None:
            axes.set_title(f"{name}\nECE {errors[name]:.4f}")
        axes.set(xlim=UNIT, ylim=UNIT, xlabel="predicted probability")
    figure.suptitle("Reliability: observed frequency of the class against predicted probability")
    add_note(figure, note, "dashed: perfect; larger points: more pixels" + "; dotted: before calibration" * bool(final))
    return figure


@styled
def plot_area_differences(rows: pd.DataFrame, differences: Mapping[str, dict], *, unit: str) -> Figure:
    """Bland-Altman plot per class: difference of two readers' areas against their mean, and the limits of agreement.

    ``rows`` has one row per image and class: class, first_area, second_area. ``differences`` holds, per class, the
    mean and the limits (or None).
    """
    shown = rows[(rows["first_area"] > 0) | (rows["second_area"] > 0)]
    figure, panels, note = class_panels(shown, list(differences), unit=f"second minus first ({unit})", shared=False)
    for name, (axes, colour) in panels.items():
        part, agreement = shown[shown["class"] == name], differences[name]
        mean, difference = part[["first_area", "second_area"]].mean(axis=1), part["second_area"] - part["first_area"]
        axes.scatter(mean, difference, s=9, color=colour, edgecolor="0.35", linewidth=0.3)
        if agreement["mean"] is not None:
            axes.axhline(agreement["mean"], color="black", linewidth=1.2)
        for limit in agreement["limits"] or ():
            axes.axhline(limit, color="black", linestyle="--", linewidth=1)
        axes.set(xlabel=f"mean area ({unit})")
    figure.suptitle("Differences of the areas that two readers drew")
    add_note(figure, note, "point: one image; line: mean difference; dashed: 95 % limits of agreement")
    return figure


def class_panels(
    rows: pd.DataFrame, names: Sequence[str], *, unit: str = "score (0 to 1)", shared: bool = True
) -> tuple[Figure, dict[str, tuple[Axes, np.ndarray]], str]:
    """A figure with one panel per class; with more than ``MAX_PANELS`` classes, those with the most rows.

    Returns the figure, the axes and colour of each class, and a note on the classes left out ("" if none). With
    ``shared``, all panels have the same vertical axis.
    """
    counts = rows["class"].value_counts()
    present = [name for name in names if name in counts.index] or list(names[:1])
    selected = sorted(sorted(present, key=lambda name: -counts.get(name, 0))[:MAX_PANELS], key=list(names).index)
    columns = min(MAX_COLUMNS, len(selected))
    lines = math.ceil(len(selected) / columns)
    width = max(columns * PANEL_INCHES + 0.5, 5.4)
    figure = new_figure(grown(width), grown(lines * (PANEL_INCHES + 0.35) + 0.9))
    grid = figure.subplots(lines, columns, squeeze=False, sharey=shared).ravel()
    for axes in grid[len(selected) :]:
        axes.set_visible(False)
    colours = unit_colours(len(names))
    for axes, name in zip(grid, selected, strict=False):
        axes.set_title(name)
        axes.grid(visible=True)
    for axes in grid[::columns]:
        axes.set_ylabel(unit)
    note = f"the {len(selected)} of {len(names)} classes with the most values" if len(selected) < len(names) else ""
    panels = {name: (axes, colours[list(names).index(name)]) for axes, name in zip(grid, selected, strict=False)}
    return figure, panels, note
