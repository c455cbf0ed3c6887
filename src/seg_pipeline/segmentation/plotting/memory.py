"""Memory that the decoded data set needs, and what the machine has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seg_pipeline.segmentation.plotting.row_panels import draw_bars
from seg_pipeline.segmentation.plotting.style import grown, new_figure, styled


@styled
def plot_memory(estimate: Mapping[str, Any], readable: Callable[[float], str]) -> Figure:
    """Memory of the decoded images and masks by size and dtype, on a logarithmic scale.

    ``estimate`` comes from ``data.estimate_memory``; ``readable`` formats a number of bytes.
    """
    bars = [
        (f"{size}, {dtype}", part["total"], f"images {readable(part['images'])}, masks {readable(part['masks'])}")
        for size, parts in [("native size", estimate["native"]), (estimate["training_form"], estimate["training"])]
        for dtype, part in parts.items()
    ]
    figure = new_figure(grown(8.0), grown(3.4))
    axes = figure.subplots()
    totals = [total for _, total, _ in bars]
    texts = [f"{readable(total)}  ({parts})" for _, total, parts in bars]
    draw_bars(axes, totals, texts, color=["#0072B2"] * 3 + ["#56B4E9"] * 3)
    axes.set(xscale="log", ylim=(len(bars) - 0.4, -0.6))
    _draw_limits(axes, estimate, readable)
    limits = [estimate["free_ram"], estimate["free_disk"], estimate["cache"]["limit"]]
    low = min(totals) / 4
    high = max(4 * max(limits), max(totals) * max(totals) / low)  # the texts take half of the axis
    axes.set(xlim=(low, high), xticks=(ticks := _ticks(low, high)), xticklabels=[readable(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
    figure.suptitle(f"Memory of {estimate['images']:,} decoded images with {estimate['classes']:,} classes")
    axes.set_title(estimate["cache"]["advice"].replace("; ", "\n"))
    return figure


def _draw_limits(axes: Axes, estimate: Mapping[str, Any], readable: Callable[[float], str]) -> None:
    limits = [
        ("free RAM", estimate["free_ram"], "#D55E00", "-"),
        ("free disk", estimate["free_disk"], "black", "--"),
        ("cache limit", estimate["cache"]["limit"], "#009E73", ":"),
    ]
    for name, count, colour, line in limits:
        axes.axvline(count, color=colour, linestyle=line, label=f"{name} {readable(count)}", zorder=1)
    axes.figure.legend(loc="outside lower center", ncols=3)


def _ticks(low: float, high: float) -> np.ndarray:
    """About six powers of 2."""
    step = int(np.ceil(np.log2(high / low) / 6))
    return 2.0 ** np.arange(np.ceil(np.log2(low) / step) * step, np.log2(high), step)
