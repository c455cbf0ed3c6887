"""The page of the data set: eda's figures in reading order, each with what to look for."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.report.page import gif_url, png_url, render

SECTIONS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Samples": (
        ("sample_sheet", "Samples", "Check that the outlines follow the objects; if not, check the mask format."),
        ("series_gif", "Animation", "One series, frame by frame. Outlines that jump are usually mismatched masks."),
        (
            "augmentation_sheet",
            "Augmentation presets",
            "Choose a preset whose images could be real; `training.augmentation` sets it.",
        ),
    ),
    "Classes": (
        ("class_counts_chart", "Images per class", "A class with few images in a split has uncertain scores there."),
        (
            "class_overview",
            "Co-occurrence, area and objects",
            "Objects of a few pixels vanish if `training.input.size` is much smaller than the images.",
        ),
        ("class_locations", "Locations", "If a class keeps to one side, augmentation must not mirror the images."),
    ),
    "Images": (
        ("image_overview", "Sizes and intensities", "A group apart from the others may come from another scanner."),
        ("series_overview", "Position in the series", "Where each class appears, and whether that changes by day."),
    ),
    "Splits": (
        ("split_comparison", "Splits compared", "Large differences make test scores say little about new images."),
    ),
    "Memory": (("memory_chart", "Memory", "Decides whether training keeps the decoded images in memory or on disk."),),
}
"""Section: (data set of the figure, title, what to look for), in the order shown."""
FIGURES = tuple(name for figures in SECTIONS.values() for name, _, _ in figures)


def data_set_page(
    images: pd.DataFrame, class_counts: pd.DataFrame, memory: Mapping[str, Any], figures: Mapping[str, bytes | None]
) -> str:
    """Write the page of the data set as HTML.

    Args:
        images: of ``exploration.image_table``.
        class_counts: of ``manifest.count_classes``.
        memory: of ``data.estimate_memory``.
        figures: PNG files (``series_gif``: GIF) by the names in ``FIGURES``; None where there is nothing to show.
    """
    sources = {name: (gif_url if name.endswith("_gif") else png_url)(image) for name, image in figures.items() if image}
    advice = memory["cache"]["advice"]
    return render(
        "data_set.html",
        title="Data set",
        lead=_lead(images),
        advice=f"{advice[:1].upper()}{advice[1:].rstrip('.')}.",
        splits=list(class_counts.columns),
        class_counts=[(row.Index, row[1:]) for row in class_counts.itertuples()],
        sections={
            section: [
                {"source": sources[name], "title": title, "reading": reading}
                for name, title, reading in of_section
                if name in sources
            ]
            for section, of_section in SECTIONS.items()
        },
    )


def _lead(images: pd.DataFrame) -> str:
    sizes = images.groupby(["width", "height"]).size().sort_values(ascending=False)
    width, height = sizes.index[0]
    more = f" and {len(sizes) - 1} more sizes" if len(sizes) > 2 else " and one more size" if len(sizes) == 2 else ""
    parts = [f"{len(images):,} images of {width} × {height} pixels{more}"]
    parts += [f"{images[name].nunique():,} {plural}" for name, plural in (("group", "groups"), ("series", "series"))]
    return ", ".join(parts) + ". findings.html beside this file lists what was wrong with the inputs."
