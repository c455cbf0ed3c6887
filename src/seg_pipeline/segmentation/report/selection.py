"""The page of the images to label next."""

from collections.abc import Hashable
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.images.intensities import read_for_display
from seg_pipeline.segmentation.report.page import jpeg_url, render
from seg_pipeline.segmentation.report.results import plural

MAX_PICTURES = 100


def selection_page(ranked: pd.DataFrame) -> str:
    """The page as HTML, from the table of ``rank_images`` and the path of each image."""
    chosen = ranked[ranked["rank"].notna()]
    pictures = [_with_picture(row) for row in chosen.head(MAX_PICTURES).to_dict("records")]
    copies = int(ranked["near_copy_of"].notna().sum())
    lead = (
        f"{plural(len(chosen), 'image')} of {len(ranked):,} to label next, in this order; "
        f"{plural(copies, 'near-copy')} of labelled or chosen images left out."
    ).replace("near-copys", "near-copies")
    return render("selection.html", title="Images to label next", lead=lead, pictures=pictures)


def _with_picture(row: dict[Hashable, Any]) -> dict[Hashable, Any]:
    try:
        return row | {"source": jpeg_url(read_for_display(row["path"]))}
    except ValueError:  # it became unreadable after it was ranked
        return row | {"source": None}
