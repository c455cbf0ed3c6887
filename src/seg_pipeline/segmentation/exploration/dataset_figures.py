"""Figures of a whole data set, from its image table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seg_pipeline.segmentation import plotting
from seg_pipeline.segmentation.exploration.pixel_statistics import PERCENTILES, location_maps
from seg_pipeline.segmentation.exploration.tables import (
    along_series,
    area_percent,
    count_together,
    describe_difference,
    measured_classes,
    over_days,
    presence,
    top_classes,
)
from seg_pipeline.segmentation.manifest.table import SPLITS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

MAX_GROUPS = 20


def class_overview(table: pd.DataFrame, *, max_classes: int) -> Figure:
    """Co-occurrence of the classes, how often each is absent, its area and number of objects."""
    names, note = top_classes(table, max_classes)
    shown, areas = presence(table), area_percent(table)
    without = int((~shown.any(axis=1)).sum())
    return plotting.plot_class_overview(
        count_together(table).loc[names, names],
        _percentiles(areas.where(shown), names),
        _percentiles(_objects(table).where(shown), names),
        _colours(table, names),
        num_images=len(table),
        title=f"Class overview: {len(table):,} images, {without:,} ({without / len(table):.0%}) without any class",
        note=note,
    )


def split_comparison(table: pd.DataFrame, report: pd.DataFrame, *, max_classes: int) -> Figure:
    """Frequency, area and objects of each class per split, and the largest differences; the title names the largest."""
    names, note = top_classes(table, max_classes)
    shown, areas, objects = presence(table), area_percent(table), _objects(table)
    splits = {name: table["split"] == name for name in SPLITS if (table["split"] == name).any()}
    return plotting.plot_split_comparison(
        pd.DataFrame({name: 100 * shown.loc[rows, names].mean() for name, rows in splits.items()}),
        {name: _percentiles(areas.where(shown)[rows], names) for name, rows in splits.items()},
        {name: _percentiles(objects.where(shown)[rows], names) for name, rows in splits.items()},
        report.assign(name=[_quantity_name(row) for row in report.to_dict("records")]),
        sizes={name: int(rows.sum()) for name, rows in splits.items()},
        title=f"Comparison of the splits\nLargest difference: {describe_difference(report)}",
        note=note,
    )


def image_overview(table: pd.DataFrame, intensities: pd.DataFrame) -> Figure:
    """Sizes of all images and intensities of the measured ones; the ``MAX_GROUPS`` groups with most images."""
    sizes = table.groupby(["height", "width"]).size().reset_index(name="images")
    names = intensities.loc[intensities["kind"] == "class", "name"].tolist()
    groups = intensities[intensities["kind"] == "group"]
    kept = groups.nlargest(MAX_GROUPS, "images").sort_values("name", key=_natural)
    rest = len(groups) - len(kept)
    left_out = f"not shown: {rest:,} more groups with {groups['images'].sum() - kept['images'].sum():,} images"
    return plotting.plot_image_overview(
        sizes,
        pd.concat([intensities[intensities["kind"] != "group"], kept]),
        _colours(table, names),
        num_images=len(table),
        sampled=int(intensities.loc[intensities["kind"] == "all", "images"].sum()),
        note=left_out if rest else "",
    )


def class_locations(rows: pd.DataFrame, *, num_images: int, max_classes: int) -> Figure:
    """How often each class occurs at each position; ``rows`` are a sample of a data set of ``num_images``."""
    names, note = top_classes(rows, max_classes)
    sampled = f"{len(rows):,} of {num_images:,} images, drawn at random" if len(rows) < num_images else ""
    return plotting.plot_class_locations(
        location_maps(rows, names),
        names,
        presence(rows)[names].sum().tolist(),
        sampled=sampled or f"all {num_images:,} images",
        note=note,
    )


def series_overview(table: pd.DataFrame, *, max_classes: int) -> Figure:
    """Frequency of the classes along the series, and per day if the series' names contain the day."""
    names, note = top_classes(table, max_classes)
    dated = int(table["day"].notna().sum())
    about = f"{len(table):,} images in {table['series'].nunique():,} series"
    if dated < len(table):
        about += f"; the day is known for {dated:,}" if dated else "; the series' names contain no day"
    return plotting.plot_series_overview(
        along_series(table).loc[names],
        over_days(table).loc[names],
        table["day"].value_counts().sort_index().tolist(),
        note=about + (f"\n{note}" if note else ""),
    )


def point_chart(table: pd.DataFrame, *, max_points: int, seed: int) -> PlotlyFigure:
    """Annotated area against number of objects (Plotly), of at most ``max_points`` images drawn at random."""
    rows = table.sample(min(max_points, len(table)), random_state=seed).sort_index()
    drawn = f"{len(rows):,} of {len(table):,} images, drawn at random" if len(rows) < len(table) else ""
    points = rows.assign(area=area_percent(rows).sum(axis=1), objects=_objects(rows).sum(axis=1))
    return plotting.plot_point_chart(
        points, title=f"Annotated area and objects per image ({drawn or f'all {len(rows):,}'})"
    )


def _objects(table: pd.DataFrame) -> pd.DataFrame:
    names = measured_classes(table)
    return table[[f"objects_{name}" for name in names]].set_axis(names, axis=1)


def _percentiles(values: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Percentiles p5, p25, p50, p75 and p95 of each class; NaN if it has no values."""
    shares = values[list(names)].quantile([share / 100 for share in PERCENTILES]).T
    return shares.set_axis([f"p{share}" for share in PERCENTILES], axis=1)


def _colours(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """The colours of some classes, the same as in all other figures."""
    every = measured_classes(table)
    return plotting.class_colours(len(every))[[every.index(name) for name in names]]


def _natural(names: pd.Series) -> pd.Series:
    """Sort keys that put case2 before case10."""
    return names.str.replace(r"\d+", lambda digits: digits.group().zfill(12), regex=True)


def _quantity_name(row: dict) -> str:
    return f"{row['class']}: {row['quantity']}" if row["class"] else row["quantity"]
