"""The table of images in the report: one row per image, worst first, which the reader can sort and filter."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.report.results import listed, score

MOST_ROWS = 2000
"""The page lists the worst images up to this number; image_scores.parquet has all."""
MOST_GROUPS = 200
"""With more groups, the filter by group is left out; the text filter finds them too."""


def image_rows(image_scores: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """One row per image, lowest Dice first, undefined last.

    Keys: image_id, group, dice (mean over its classes, NaN if it shows none), errors (wrong pixels), worst (lowest
    class), missed and false (classes without a correct pixel), outcome, classes.
    """
    rows = image_scores.assign(
        missed=(image_scores["true_pos"] == 0) & (image_scores["false_neg"] > 0),
        false=(image_scores["true_pos"] == 0) & (image_scores["false_pos"] > 0) & (image_scores["false_neg"] == 0),
        errors=image_scores["false_pos"] + image_scores["false_neg"],
    )
    images = rows.groupby("image_id").agg(group=("group", "first"), dice=("dice", "mean"), errors=("errors", "sum"))
    ranked = images.sort_values(["dice", "errors"], ascending=[True, False], kind="stable").head(MOST_ROWS)
    parts: dict[str, list[dict]] = {image_id: [] for image_id in ranked.index}
    for row in rows[rows["image_id"].isin(ranked.index)].to_dict("records"):
        parts[row["image_id"]].append(row)
    return [{**row, **_classes(parts[row["image_id"]])} for row in ranked.reset_index().to_dict("records")]


def _classes(rows: list[dict]) -> dict[Hashable, Any]:
    """The keys of a row that summarise the classes of one image."""
    known = [row for row in rows if not math.isnan(row["dice"])]
    lowest = min(known, key=lambda row: row["dice"], default=None)
    missed, false = ([row["class"] for row in rows if row[error]] for error in ("missed", "false"))
    outcomes = [name for name, found in (("missed", missed), ("false positive", false)) if found]
    return {
        "worst": f"{lowest['class']} {score(lowest['dice'], 2)}" if lowest else "",
        "missed": listed(missed, 4),
        "false": listed(false, 4),
        "outcome": "|".join(outcomes) or "neither",
        "classes": "|".join(row["class"] for row in known),
    }
