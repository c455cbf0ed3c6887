"""Panels side by side that share one row per name: bars, boxes and heat maps."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from seg_pipeline.segmentation.plotting.style import grown, new_figure, small

ROW_INCHES = 0.15  # height of a number
TEXT_BACKGROUND = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}  # keeps a number readable on a line
MAX_WITH_NUMBERS = 15
DARK = 55  # from this percentage, the cell is dark blue and its number white
WIDE = 20  # ratio of largest to smallest value above which an axis is logarithmic
GREY = "0.35"
BOX_NOTE = "box: 25th to 75th percentile, line: 5th to 95th percentile of images, number: median"


def row_panels(
    names: Sequence[str], widths: Sequence[float], *, num_bars: int = 1, extra: float = 1.3, own_rows: float = 0
) -> tuple[Figure, list[Axes]]:
    """A figure with panels of these widths in inches; the first panel labels the rows, from top to bottom.

    ``own_rows``: width of a last panel with its own rows; 0: no such panel.
    """
    height = max(1.0, len(names) * (num_bars + 0.7) * grown(ROW_INCHES)) + grown(extra)
    all_widths = [*widths, own_rows] if own_rows else list(widths)
    figure = new_figure(grown(sum(all_widths)), height)
    grid = figure.add_gridspec(1, len(all_widths), width_ratios=all_widths)
    first = figure.add_subplot(grid[0])
    first.set_yticks(range(len(names)), names)
    first.set_ylim(len(names) - 0.5, -0.5)
    panels = [first, *[figure.add_subplot(grid[index], sharey=first) for index in range(1, len(widths))]]
    for axes in panels[1:]:
        axes.tick_params(axis="y", length=0, labelleft=False)
    return figure, [*panels, figure.add_subplot(grid[-1])] if own_rows else panels


def add_note(figure: Figure, *notes: str) -> None:
    """Add small print below the figure; empty notes are skipped."""
    figure.supxlabel("\n".join(filter(None, notes)), fontsize=small())


def add_legend(figure: Figure, handles: Sequence[Any], *notes: str) -> None:
    """Add a legend below the figure with small print above it; empty notes are skipped."""
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=7)
    legend.set_title("\n".join(filter(None, notes)))
    legend.get_title().set(fontsize=small(), multialignment="center")


def bar_places(num_rows: int, index: int, num_bars: int, share: float = 0.84) -> tuple[np.ndarray, float]:
    """Positions and thickness of bar ``index`` of ``num_bars`` in each row; all bars together take ``share`` of it."""
    thickness = share / num_bars
    return np.arange(num_rows) + (index - (num_bars - 1) / 2) * thickness, thickness


def draw_bars(
    axes: Axes,
    values: Any,
    texts: Sequence[str],
    index: int = 0,
    num_bars: int = 1,
    *,
    upright: bool = False,
    **style: Any,
) -> None:
    """Draw bar ``index`` of ``num_bars`` in each row, with texts at the ends."""
    places, thickness = bar_places(len(texts), index, num_bars)
    bars = (axes.bar if upright else axes.barh)(places, values, thickness, **style)
    axes.bar_label(bars, labels=list(texts), padding=2, fontsize=small(), bbox=TEXT_BACKGROUND)
    axes.grid(visible=True, axis="y" if upright else "x")


def write_beside(axes: Axes, texts: Sequence[str]) -> None:
    """Write one text per row to the right of the axes, and widen the figure, so that the axes keep their size."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.set_figwidth(figure.get_figwidth() + max(map(len, texts), default=0) * small() / 2 / 72)
    for place, text in enumerate(texts):
        axes.text(1.03, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=small())


def draw_boxes(
    axes: Axes,
    percentiles: pd.DataFrame,
    colours: Any,
    *,
    index: int = 0,
    num_bars: int = 1,
    share: float = 0.84,
) -> None:
    """Draw one box per row from p25 to p75, with a mark at p50 and a line from p5 to p95; NaN draws nothing.

    ``colours`` is one colour for all rows or one per row. The median is written at the end of the line.
    """
    places, thickness = bar_places(len(percentiles), index, num_bars, share)
    low, q1, middle, q3, high = percentiles[["p5", "p25", "p50", "p75", "p95"]].to_numpy(dtype=float).T
    axes.hlines(places, low, high, color=GREY, linewidth=1)
    axes.barh(places, q3 - q1, thickness * 0.8, left=q1, color=colours, edgecolor=GREY, linewidth=0.5, zorder=2)
    axes.vlines(middle, places - thickness * 0.4, places + thickness * 0.4, color="black", linewidth=1.4, zorder=3)
    for place, end, value in zip(places, high, middle, strict=True):
        if np.isfinite(end):
            axes.annotate(
                number(value),
                (end, place),
                (3, 0),
                textcoords="offset points",
                va="center",
                bbox=TEXT_BACKGROUND,
                fontsize=small(),
            )
    axes.grid(visible=True, axis="x")


def scale_values(axes: Axes, *tables: pd.DataFrame, wide: float = WIDE) -> None:
    """Scale the axis, logarithmically if positive values span more than a factor of ``wide``, with room for numbers."""
    values = np.concatenate([table[["p5", "p50", "p95"]].to_numpy(dtype=float).ravel() for table in tables])
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > wide:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.5, high * (high / low) ** 0.3)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter("{x:,g}")
    else:
        axes.set_xlim(0, high * 1.3 or 1)


def number(value: float) -> str:
    """Three significant digits; all digits of the integer part from 1,000."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def draw_heat(
    axes: Axes,
    percent: pd.DataFrame,
    *,
    slope: int,
    text: Callable[[float], str] | None = None,
    aspect: Literal["auto", "equal"] = "auto",
) -> Any:
    """Draw a heat map of percentages (NaN is grey) with the column names below and ``text(value)`` in the cells."""
    colours = matplotlib.colormaps["Blues"].with_extremes(bad="0.85")
    values = percent.to_numpy(dtype=float)
    heat = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=0, vmax=100, aspect=aspect)
    axes.set_xticks(range(len(percent.columns)), [str(name) for name in percent.columns])
    if slope:
        for label in axes.get_xticklabels():
            label.set(rotation=slope, ha="right", va="center", rotation_mode="anchor")
    axes.spines[:].set_visible(True)
    if text is not None:
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if value >= DARK else "black"
            axes.text(column, row, text(value), ha="center", va="center", fontsize=small(), color=colour)
    return heat


def whole_percent(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else ""
