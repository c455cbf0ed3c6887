"""Figures of the images: sizes, intensities, locations, series, and an interactive chart of all images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from seg_pipeline.segmentation.exploration.pixel_statistics import location_maps
from seg_pipeline.segmentation.exploration.tables import (
    area_percent,
    class_colours,
    classes_along_series,
    classes_by_day,
    per_class,
    presence,
    top_classes,
)
from seg_pipeline.segmentation.plotting.row_panels import add_note, draw_boxes, draw_heat, scale_values, whole_percent
from seg_pipeline.segmentation.plotting.style import grown, new_figure, small, styled
from seg_pipeline.segmentation.settings.figures import CURRENT

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

MAX_GROUPS = 20
MAX_SIZES = 10  # with more sizes, they are binned
PANEL_INCHES = 2.1
MAX_COLUMNS = 6
MAX_NUMBERS = 12
BYTE = 256  # only 16-bit values can span more than this factor, and need a logarithmic axis
SPLIT_STYLES = {"train": ("#0072B2", "circle"), "val": ("#E69F00", "diamond"), "test": ("#009E73", "x")}


@styled
def image_overview(table: pd.DataFrame, intensities: pd.DataFrame) -> Figure:
    """Sizes of all images, and intensities of the measured ones by class and by the ``MAX_GROUPS`` largest groups."""
    by_class, groups = (intensities[(intensities["kind"] == "group") == is_group] for is_group in (False, True))
    by_group = groups.nlargest(MAX_GROUPS, "images").sort_values("name", key=_natural_sort_key)
    colours = class_colours(table, by_class.loc[by_class["kind"] == "class", "name"].tolist())
    rows = max(len(by_class), len(by_group), 6)
    figure = new_figure(grown(10.5), grown(1.5) + rows * grown(0.23))
    size, of_class, of_group = figure.subplots(1, 3, width_ratios=[1, 1.1, 1.1])
    _draw_sizes(size, table.groupby(["height", "width"]).size().reset_index(name="images"))
    class_bar_colours = np.concatenate([np.full((len(by_class) - len(colours), 3), 0.75), colours / 255])
    for axes, boxes, colour, title in [
        (of_class, by_class, class_bar_colours, "Intensity by class"),
        (of_group, by_group, "0.75", "Intensity by group"),
    ]:
        draw_boxes(axes, boxes, colour, share=min(0.84, 1.7 * len(boxes) / rows))
        scale_values(axes, boxes, wide=BYTE)
        axes.set_yticks(range(len(boxes)), list(boxes["name"]))
        axes.set(title=title, xlabel="stored value (mean of the channels)", ylim=(len(boxes) - 0.5, -0.5))
    sampled = int(intensities.loc[intensities["kind"] == "all", "images"].sum())
    intensity_text = f"intensities of {sampled:,}, drawn at random" if sampled < len(table) else "intensities of all"
    figure.suptitle(f"Image overview: sizes of {len(table):,} images, {intensity_text}")
    rest = len(groups) - len(by_group)
    left_out = f"not shown: {rest:,} more groups with {groups['images'].sum() - by_group['images'].sum():,} images"
    boxes_note = "box: 25th to 75th percentile, line: 5th to 95th percentile of pixels, number: median"
    add_note(figure, left_out if rest else "", boxes_note)
    return figure


def _natural_sort_key(names: pd.Series) -> pd.Series:
    """Sort keys that put case2 before case10."""
    return names.str.replace(r"\d+", lambda digits: digits.group().zfill(12), regex=True)


def _draw_sizes(axes: Axes, sizes: pd.DataFrame) -> None:
    height, width, images = (sizes[name].to_numpy() for name in ("height", "width", "images"))
    if len(sizes) <= MAX_SIZES:
        axes.scatter(width, height, s=30 + 250 * np.sqrt(images / images.max()), color="#0072B2", alpha=0.5)
        lines = [f"{row.height} x {row.width}: {row.images:,}" for row in sizes.itertuples()]
        # in the corner, because points may be too close for labels
        axes.text(0.04, 0.97, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=small())
        axes.set(xlim=_axis_limits(width), ylim=_axis_limits(height))
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


def _axis_limits(values: np.ndarray) -> tuple[float, float]:
    """Axis limits with room for the text; sizes that hardly differ are drawn close together."""
    span = max(0.8 * float(values.max() - values.min()), 0.25 * float(values.max()))
    return max(0, float(values.min()) - span), float(values.max()) + span


def class_locations(rows: pd.DataFrame, *, num_images: int, max_classes: int) -> Figure:
    """How often each class occurs at each position; ``rows`` is a sample of a data set of ``num_images``."""
    names, note = top_classes(rows, max_classes)
    sampled = f"{len(rows):,} of {num_images:,} images, drawn at random" if len(rows) < num_images else ""
    counts = presence(rows)[names].sum().tolist()
    return draw_locations(
        location_maps(rows, names), names, counts, sampled=sampled or f"all {num_images:,} images", note=note
    )


@styled
def draw_locations(maps: np.ndarray, names: Sequence[str], counts: Sequence[int], *, sampled: str, note: str) -> Figure:
    """Draw maps in percent, float (C, H, W), on one scale that is finer near 0, so that rare classes are visible.

    ``counts`` is the number of sampled images that show each class; ``sampled`` describes the sample.
    """
    columns = min(MAX_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    ratio = maps.shape[1] / maps.shape[2]
    width = max(columns * PANEL_INCHES + 0.9, 6.5)
    figure = new_figure(grown(width), grown(rows * (PANEL_INCHES * ratio + 0.42) + 0.5))
    figure.set_layout_engine("compressed")  # the panels keep the aspect ratio of the maps
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    scale = PowerNorm(0.5, 0, float(maps.max()) or 1)
    for axes, part, name, count in zip(panels, maps, names, counts, strict=False):
        axes.imshow(part, cmap="Blues", norm=scale)  # dark pages invert it: bright where the class is frequent
        axes.set(title=f"{name}\n{count:,} images, up to {part.max():.0f} %", xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color="0.8")
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    mapped = matplotlib.cm.ScalarMappable(scale, "Blues")
    figure.colorbar(mapped, ax=list(panels), shrink=0.8, label="images with the class here (%)")
    figure.suptitle("Class locations: share of images that show the class at each position")
    add_note(figure, sampled, note)
    return figure


@styled
def series_overview(table: pd.DataFrame, *, max_classes: int) -> Figure:
    """Frequency of the classes along the series, and per day if the series' names contain the day."""
    names, note = top_classes(table, max_classes)
    positions, days = classes_along_series(table).loc[names], classes_by_day(table).loc[names]
    widths = [4.6, max(2.2, min(0.42 * days.shape[1] + 1.0, 7.0))] if days.shape[1] else [5.6]
    height = max(1.2, len(positions) * grown(0.24)) + grown(1.9)
    figure = new_figure(grown(sum(widths) + 2.2), height)
    panels = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    heat = draw_heat(panels[0], positions, slope=0)
    last = positions.shape[1] - 0.5
    panels[0].set_xticks([-0.5, (last - 0.5) / 2, last], ["first", "middle", "last"])
    panels[0].set_xlabel("frame of the series")
    if days.shape[1]:
        few, counts = days.shape[1] <= MAX_NUMBERS, table["day"].value_counts().sort_index()
        labels = [f"{day:g} ({count:,})" for day, count in counts.items()]
        text = whole_percent if few else None
        draw_heat(panels[1], days.set_axis(labels, axis=1), text=text, slope=45 if few else 90)
        step = math.ceil(len(labels) / 40)
        panels[1].set_xticks(range(0, len(labels), step), labels[::step])
        panels[1].set_xlabel("day (images)")
    for axes in panels:
        axes.set_yticks(range(len(positions)), list(positions.index) if axes is panels[0] else [])
    figure.colorbar(heat, ax=list(panels), label="images with the class (%)", fraction=0.05)
    figure.suptitle("Class frequency along the series" + (" and by day" if days.shape[1] else ""))
    dated = int(table["day"].notna().sum())
    summary = f"{len(table):,} images in {table['series'].nunique():,} series"
    if dated < len(table):
        summary += f"; the day is known for {dated:,}" if dated else "; the series' names contain no day"
    add_note(figure, summary, note)
    return figure


def point_chart(table: pd.DataFrame, *, max_points: int, seed: int) -> PlotlyFigure:
    """Annotated area against number of objects (Plotly): at most ``max_points`` images; hover shows their names."""
    import plotly.graph_objects as go  # imported here: it takes 0.5 s, and only this figure needs it

    points = table.sample(min(max_points, len(table)), random_state=seed).sort_index()
    drawn = f"{len(points):,} of {len(table):,} images, drawn at random" if len(points) < len(table) else ""
    points = points.assign(area=area_percent(points).sum(axis=1), objects=per_class(points, "objects").sum(axis=1))
    title = f"Annotated area and objects per image ({drawn or f'all {len(points):,}'})"
    figure = go.Figure()
    for split, rows in points.groupby("split", sort=False):
        colour, symbol = SPLIT_STYLES.get(str(split), ("#666666", "square"))
        figure.add_scatter(
            x=rows["area"].tolist(),
            y=rows["objects"].tolist(),
            name=f"{split} ({len(rows):,})",
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 7, "opacity": 0.7},
            customdata=rows[["image_id", "group", "series", "frame", "height", "width"]]
            .to_numpy(dtype=object)
            .tolist(),
            hovertemplate=(
                "<b>%{customdata[0]}</b><br>group %{customdata[1]}, series %{customdata[2]}, "
                "frame %{customdata[3]}<br>%{customdata[4]} x %{customdata[5]} (height x width)<br>"
                "%{x:.2f} % annotated, %{y} objects<extra></extra>"
            ),
        )
    figure.update_layout(
        template="plotly_white",
        font={"size": CURRENT.font_size * 4 / 3},  # points to pixels, Plotly's unit
        title={"text": title},
        xaxis={"title": {"text": "annotated area (% of the image, summed over classes)"}},
        yaxis={"title": {"text": "objects (connected components)"}},
        legend={"title": {"text": "split (images)"}},
    )
    return figure
