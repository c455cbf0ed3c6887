"""Statistics of the classes in the masks: co-occurrence, area, objects, and their distribution per split."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from seg_pipeline.segmentation.plotting.row_panels import (
    BOX_NOTE,
    MAX_WITH_NUMBERS,
    add_note,
    draw_bars,
    draw_boxes,
    draw_heat,
    row_panels,
    scale_values,
    whole_percent,
)
from seg_pipeline.segmentation.plotting.style import small, styled

MAX_DIFFERENCES = 12


@styled
def plot_class_overview(
    together: pd.DataFrame,
    areas: pd.DataFrame,
    objects: pd.DataFrame,
    colours: np.ndarray,
    *,
    num_images: int,
    title: str,
    note: str,
) -> Figure:
    """Co-occurrence of the classes, how often each is absent, its area and its number of objects.

    Args:
        together: number of images that show both classes, one row and one column per class.
        areas: percentiles p5, p25, p50, p75, p95 of the area of each class, in percent of the image, over the images
            that show the class.
        objects: the same percentiles of the number of connected components.
        colours: uint8 (C, 3), one per class.
        num_images: images in the data set.
        note: what was left out, or "".
    """
    names, look = list(together.index), colours / 255
    shown = np.diag(together.to_numpy())
    side = max(2.1, min(len(names) * 0.42, 6.0))
    figure, (heat, absent, area, count) = row_panels(names, [side + 1.4, 2.6, 2.6, 2.6], extra=1.9)
    shares = 100 * together.div(np.where(shown > 0, shown, np.nan), axis=0)
    numbers = len(names) <= MAX_WITH_NUMBERS
    draw_heat(heat, shares, text=whole_percent if numbers else None, slope=45 if numbers else 90)
    heat.set(title="Co-occurrence: % of the images\nwith the row's class that\nalso show the column's class")
    empty = num_images - shown
    texts = [f"{value / num_images:.0%} ({value:,})" for value in empty]
    draw_bars(absent, 100 * empty / num_images, texts, color=look, edgecolor="0.35", linewidth=0.5)
    absent.set(title="Images without the class", xlabel="% of images (images)", xlim=(0, 145), xticks=[0, 50, 100])
    for axes, table, heading, unit in [
        (area, areas, "Area, if present", "% of the image"),
        (count, objects, "Objects, if present", "connected components"),
    ]:
        draw_boxes(axes, table, look)
        scale_values(axes, table)
        axes.set(title=heading, xlabel=unit)
    figure.suptitle(title)
    add_note(figure, note, BOX_NOTE)
    return figure


@styled
def plot_split_comparison(
    shown: pd.DataFrame,
    areas: Mapping[str, pd.DataFrame],
    objects: Mapping[str, pd.DataFrame],
    differences: pd.DataFrame,
    *,
    sizes: Mapping[str, int],
    title: str,
    note: str,
) -> Figure:
    """Frequency, area and number of objects of each class per split, and the largest differences.

    Args:
        shown: percent of images that show the class, one row per class, one column per split.
        areas: per split, as for ``plot_class_overview``.
        objects: per split, as for ``plot_class_overview``.
        differences: columns name and distance (0 to 1), largest first.
        sizes: images per split.
        note: what was left out, or "".
    """
    splits, names = list(shown.columns), list(shown.index)
    colours = matplotlib.colormaps["cividis"](np.linspace(0.1, 0.85, len(splits)))
    most = max(3, min(MAX_DIFFERENCES, round(len(names) * (len(splits) + 0.7) / 1.7)))
    figure, panels = row_panels(names, [3.2, 2.4, 2.4], num_bars=len(splits), extra=2.1, own_rows=4.4)
    for index, (split, colour) in enumerate(zip(splits, colours, strict=True)):
        texts = [f"{value:.0f}" for value in shown[split]]
        draw_bars(panels[0], shown[split], texts, index, len(splits), color=colour)
        for axes, tables in zip(panels[1:3], (areas, objects), strict=True):
            draw_boxes(axes, tables[split], colour, index=index, num_bars=len(splits))
    panels[0].set(title="Images with the class", xlabel="% of the split's images", xlim=(0, 118))
    scale_values(panels[1], *areas.values())
    panels[1].set(title="Area, if present", xlabel="% of the image")
    scale_values(panels[2], *objects.values())
    panels[2].set(title="Objects, if present", xlabel="connected components")
    _add_differences(panels[3], differences.dropna(subset="distance").head(most))
    handles = [
        Patch(color=colour, label=f"{split} ({sizes[split]:,})") for split, colour in zip(splits, colours, strict=True)
    ]
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=len(splits))
    legend.set_title("\n".join(filter(None, [note, f"split (images); {BOX_NOTE}"])))
    legend.get_title().set(fontsize=small(), multialignment="center")
    figure.suptitle(title)
    return figure


def _add_differences(axes: Axes, differences: pd.DataFrame) -> None:
    draw_bars(axes, differences["distance"], [f"{value:.2f}" for value in differences["distance"]], color="0.6")
    axes.set_yticks(range(len(differences)), list(differences["name"]))
    axes.set(ylim=(max(len(differences), 1) - 0.5, -0.5), xlim=(0, 1.18), xticks=[0, 0.5, 1])
    axes.set(title="Largest differences between two splits", xlabel="Kolmogorov-Smirnov distance (0 to 1)")
