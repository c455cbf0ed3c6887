"""Distributions of image sizes, intensities and class locations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seg_pipeline.segmentation.plotting.row_panels import add_note, draw_boxes, draw_heat, scale_values, whole_percent
from seg_pipeline.segmentation.plotting.style import grown, new_figure, small, styled

MAX_SIZES = 10  # with more sizes, they are binned
PANEL_INCHES = 2.1
MAX_COLUMNS = 6
MAX_NUMBERS = 12
BYTE = 256  # only 16-bit values can span more than this factor, and need a logarithmic axis


@styled
def plot_image_overview(
    sizes: pd.DataFrame, intensities: pd.DataFrame, colours: np.ndarray, *, num_images: int, sampled: int, note: str
) -> Figure:
    """Height and width of the images, and the intensities per class and per group.

    Args:
        sizes: one row per size: height, width, images.
        intensities: one row per class or group: kind ("all", "class", "group"), name, p5, p25, p50, p75, p95.
        colours: uint8 (C, 3), one per class in ``intensities``.
        num_images: images in the data set.
        sampled: number of images whose pixels were read.
        note: what was left out, or "".
    """
    by_class = intensities[intensities["kind"] != "group"]
    by_group = intensities[intensities["kind"] == "group"]
    rows = max(len(by_class), len(by_group), 6)
    figure = new_figure(grown(10.5), grown(1.5) + rows * grown(0.23))
    size, classes, groups = figure.subplots(1, 3, width_ratios=[1, 1.1, 1.1])
    _draw_sizes(size, sizes)
    look = np.concatenate([np.full((len(by_class) - len(colours), 3), 0.75), colours / 255])
    for axes, table, colour, title in [
        (classes, by_class, look, "Intensity by class"),
        (groups, by_group, "0.75", "Intensity by group"),
    ]:
        draw_boxes(axes, table, colour, share=min(0.84, 1.7 * len(table) / rows))
        scale_values(axes, table, wide=BYTE)
        axes.set_yticks(range(len(table)), list(table["name"]))
        axes.set(title=title, xlabel="stored value (mean of the channels)", ylim=(len(table) - 0.5, -0.5))
    read = f"intensities of {sampled:,}, drawn at random" if sampled < num_images else "intensities of all"
    figure.suptitle(f"Image overview: sizes of {num_images:,} images, {read}")
    add_note(figure, note, "box: 25th to 75th percentile, line: 5th to 95th percentile of pixels, number: median")
    return figure


def _draw_sizes(axes: Axes, sizes: pd.DataFrame) -> None:
    height, width, images = (sizes[name].to_numpy() for name in ("height", "width", "images"))
    if len(sizes) <= MAX_SIZES:
        axes.scatter(width, height, s=30 + 250 * np.sqrt(images / images.max()), color="#0072B2", alpha=0.5)
        lines = [f"{row.height} x {row.width}: {row.images:,}" for row in sizes.itertuples()]
        # in the corner, because points may be too close together for labels
        axes.text(0.04, 0.97, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=small())
        axes.set(xlim=_wide(width), ylim=_wide(height))
        title = "Sizes (height x width: images)"
    else:
        *_, heat = axes.hist2d(width, height, bins=40, weights=images, cmap="viridis", norm=LogNorm(), cmin=1)
        axes.figure.colorbar(heat, ax=axes, label="images")
        common = sizes.sort_values("images").iloc[-1]
        title = f"{len(sizes):,} sizes, most often {common['height']} x {common['width']} ({common['images']:,})"
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set(title=title, xlabel="width (pixels)", ylabel="height (pixels)")
    axes.grid(visible=True)


def _wide(values: np.ndarray) -> tuple[float, float]:
    """Axis limits with room for the texts; sizes that hardly differ are drawn close together."""
    span = max(0.8 * float(values.max() - values.min()), 0.25 * float(values.max()))
    return max(0, float(values.min()) - span), float(values.max()) + span


@styled
def plot_class_locations(
    maps: np.ndarray, names: Sequence[str], counts: Sequence[int], *, sampled: str, note: str
) -> Figure:
    """Class locations: the percentage of images that show each class at each position.

    Args:
        maps: float (C, H, W), percent; the colours of each panel range from 0 to its own maximum.
        names: one class name per map.
        counts: number of sampled images that show each class.
        sampled: which images were read, as text.
        note: what was left out, or "".
    """
    columns = min(MAX_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    ratio = maps.shape[1] / maps.shape[2]
    width = max(columns * PANEL_INCHES + 0.9, 6.5)
    figure = new_figure(grown(width), grown(rows * (PANEL_INCHES * ratio + 0.42) + 0.5))
    figure.set_layout_engine("compressed")  # the panels keep the aspect ratio of the maps
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, part, name, count in zip(panels, maps, names, counts, strict=False):
        axes.imshow(part, cmap="viridis", vmin=0, vmax=float(part.max()) or 1)
        axes.set(title=f"{name}\n{count:,} images, up to {part.max():.0f} %", xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    bar = figure.colorbar(matplotlib.cm.ScalarMappable(cmap="viridis"), ax=list(panels), shrink=0.8, ticks=[0, 1])
    bar.ax.set_yticklabels(["0", "max"])
    figure.suptitle("Class locations: share of images that show the class at each position")
    add_note(figure, sampled, note)
    return figure


@styled
def plot_series_overview(
    positions: pd.DataFrame, days: pd.DataFrame, images_by_day: Sequence[int], *, note: str
) -> Figure:
    """How often each class occurs along the series and per day.

    Args:
        positions: percent of images, one row per class, one column per part of the series, first to last.
        days: percent of images, one row per class, one column per day; without columns, the panel is left out.
        images_by_day: number of images per day.
        note: which images the figure covers.
    """
    widths = [4.6, max(2.2, min(0.42 * days.shape[1] + 1.0, 7.0))] if days.shape[1] else [5.6]
    height = max(1.2, len(positions) * grown(0.24)) + grown(1.9)
    figure = new_figure(grown(sum(widths) + 2.2), height)
    panels = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    heat = draw_heat(panels[0], positions, slope=0)
    last = positions.shape[1] - 0.5
    panels[0].set_xticks([-0.5, (last - 0.5) / 2, last], ["first", "middle", "last"])
    panels[0].set_xlabel("frame of the series")
    if days.shape[1]:
        few = days.shape[1] <= MAX_NUMBERS
        names = [f"{day:g} ({count:,})" for day, count in zip(days.columns, images_by_day, strict=True)]
        text = whole_percent if few else None
        draw_heat(panels[1], days.set_axis(names, axis=1), text=text, slope=45 if few else 90)
        step = math.ceil(len(names) / 40)
        panels[1].set_xticks(range(0, len(names), step), names[::step])
        panels[1].set_xlabel("day (images)")
    for axes in panels:
        axes.set_yticks(range(len(positions)), list(positions.index) if axes is panels[0] else [])
    figure.colorbar(heat, ax=list(panels), label="images with the class (%)", fraction=0.05)
    figure.suptitle("Class frequency along the series" + (" and by day" if days.shape[1] else ""))
    add_note(figure, note)
    return figure
