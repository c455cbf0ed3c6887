"""The data set page: eda's figures in reading order, each with a hint what to look for."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.report.page import embedded, render
from seg_pipeline.segmentation.report.results import plural


def data_set_page(
    images: pd.DataFrame, class_counts: pd.DataFrame, memory: Mapping[str, Any], figures: Mapping[str, bytes | None]
) -> str:
    """The data set page as HTML, from the tables of ``eda`` and its figures by catalog name.

    ``figures`` are PNG files (``series_gif``: GIF); None if there is nothing to show. The template has their captions.
    """
    advice = memory["cache"]["advice"]
    return render(
        "data_set.html",
        title="Data set",
        lead=_lead(images),
        advice=f"{advice[:1].upper()}{advice[1:].rstrip('.')}.",
        splits=list(class_counts.columns),
        class_counts=[(row.Index, row[1:]) for row in class_counts.itertuples()],
        figures={name: embedded(name, image) for name, image in figures.items() if image},
    )


def _lead(images: pd.DataFrame) -> str:
    sizes = images.groupby(["width", "height"]).size().sort_values(ascending=False)
    width, height = sizes.index[0]
    more = f" and {len(sizes) - 1} more sizes" if len(sizes) > 2 else " and one more size" if len(sizes) == 2 else ""
    parts = [f"{plural(len(images), 'image')} of {width} × {height} pixels{more}"]
    groups, series = images["group"].nunique(), images["series"].nunique()
    parts += [plural(groups, "group")] if groups < len(images) else []
    parts += [f"{series:,} series"] if series < len(images) else []
    return ", ".join(parts) + "."
