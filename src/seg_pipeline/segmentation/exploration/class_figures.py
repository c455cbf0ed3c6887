"""Figures of the classes in the masks: co-occurrence, area, objects, and their distribution per split."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from seg_pipeline.segmentation.exploration.pixel_statistics import PERCENTILES
from seg_pipeline.segmentation.exploration.tables import (
    area_percent,
    class_colours,
    count_cooccurrence,
    describe_difference,
    per_class,
    presence,
    top_classes,
)
from seg_pipeline.segmentation.manifest.table import SPLITS
from seg_pipeline.segmentation.plotting.row_panels import (
    BOX_NOTE,
    MAX_WITH_NUMBERS,
    add_legend,
    add_note,
    draw_bars,
    draw_boxes,
    draw_heat,
    row_panels,
    scale_values,
    whole_percent,
)
from seg_pipeline.segmentation.plotting.style import styled

MAX_DIFFERENCES = 12


@styled
def class_overview(table: pd.DataFrame, *, max_classes: int) -> Figure:
    """Co-occurrence of the classes, how often each is absent, its area and its number of objects."""
    names, note = top_classes(table, max_classes)
    present = presence(table)
    together = count_cooccurrence(table).loc[names, names]
    look, shown = class_colours(table, names) / 255, np.diag(together.to_numpy())
    side = max(2.1, min(len(names) * 0.42, 6.0))
    figure, (heat, absent, area, count) = row_panels(names, [side + 1.4, 2.6, 2.6, 2.6], extra=1.9)
    shares = 100 * together.div(np.where(shown > 0, shown, np.nan), axis=0)
    numbers = len(names) <= MAX_WITH_NUMBERS
    draw_heat(heat, shares, text=whole_percent if numbers else None, slope=45 if numbers else 90)
    heat.set(title="Co-occurrence: % of the images\nwith the row's class that\nalso show the column's class")
    empty = len(table) - shown
    texts = [f"{value / len(table):.0%} ({value:,})" for value in empty]
    draw_bars(absent, 100 * empty / len(table), texts, color=look, edgecolor="0.35", linewidth=0.5)
    absent.set(title="Images without the class", xlabel="% of images (images)", xlim=(0, 145), xticks=[0, 50, 100])
    for axes, values, heading, unit in [
        (area, area_percent(table), "Area, if present", "% of the image"),
        (count, per_class(table, "objects"), "Objects, if present", "connected components"),
    ]:
        boxes = _percentiles(values.where(present), names)
        draw_boxes(axes, boxes, look)
        scale_values(axes, boxes)
        axes.set(title=heading, xlabel=unit)
    without = int((~present.any(axis=1)).sum())
    figure.suptitle(
        f"Class overview: {len(table):,} images, {without:,} ({without / len(table):.0%}) without any class"
    )
    add_note(figure, note, BOX_NOTE)
    return figure


@styled
def split_comparison(table: pd.DataFrame, report: pd.DataFrame, *, max_classes: int) -> Figure:
    """Frequency, area and objects of each class per split, and the largest differences; the title names the largest."""
    names, note = top_classes(table, max_classes)
    present = presence(table)
    splits = {name: table["split"] == name for name in SPLITS if (table["split"] == name).any()}
    of_all = matplotlib.colormaps["cividis"](np.linspace(0.1, 0.85, len(SPLITS)))  # as in the chart of counts
    colours = [colour for name, colour in zip(SPLITS, of_all, strict=True) if name in splits]
    figure, panels = row_panels(names, [3.2, 2.4, 2.4], num_bars=len(splits), extra=2.1, own_rows=4.4)
    for index, (rows, colour) in enumerate(zip(splits.values(), colours, strict=True)):
        percent = 100 * present.loc[rows, names].mean()
        draw_bars(panels[0], percent, [f"{value:.0f}" for value in percent], index, len(splits), color=colour)
    panels[0].set(title="Images with the class", xlabel="% of the split's images", xlim=(0, 118))
    for axes, values, heading, unit in [
        (panels[1], area_percent(table), "Area, if present", "% of the image"),
        (panels[2], per_class(table, "objects"), "Objects, if present", "connected components"),
    ]:
        boxes = [_percentiles(values.where(present)[rows], names) for rows in splits.values()]
        for index, (box, colour) in enumerate(zip(boxes, colours, strict=True)):
            draw_boxes(axes, box, colour, index=index, num_bars=len(splits))
        scale_values(axes, *boxes)
        axes.set(title=heading, xlabel=unit)
    num_differences = max(3, min(MAX_DIFFERENCES, round(len(names) * (len(splits) + 0.7) / 1.7)))
    _draw_differences(panels[3], report.dropna(subset="distance").head(num_differences))
    handles = [
        Patch(color=colour, label=f"{split} ({rows.sum():,})")
        for (split, rows), colour in zip(splits.items(), colours, strict=True)
    ]
    add_legend(figure, handles, note, f"split (images); {BOX_NOTE}")
    figure.suptitle(f"Comparison of the splits\nLargest difference: {describe_difference(report)}")
    return figure


def _draw_differences(axes: Axes, report: pd.DataFrame) -> None:
    """``report`` is from ``tables.compare_splits``, largest difference first."""
    draw_bars(axes, report["distance"], [f"{value:.2f}" for value in report["distance"]], color="0.6")
    names = [f"{row['class']}: {row['quantity']}".removeprefix(": ") for row in report.to_dict("records")]
    axes.set_yticks(range(len(report)), names)
    axes.set(ylim=(max(len(report), 1) - 0.5, -0.5), xlim=(0, 1.18), xticks=[0, 0.5, 1])
    axes.set(title="Largest differences between two splits", xlabel="Kolmogorov-Smirnov distance (0 to 1)")


def _percentiles(values: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Percentiles p5, p25, p50, p75 and p95 of each class; NaN if it has no values."""
    shares = values[names].quantile([share / 100 for share in PERCENTILES]).T
    return shares.set_axis([f"p{share}" for share in PERCENTILES], axis=1)
