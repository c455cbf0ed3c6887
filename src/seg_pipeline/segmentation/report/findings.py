"""The page of findings: how many of what, what was done, the worst images, every finding."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from seg_pipeline.segmentation import plotting
from seg_pipeline.segmentation.images.decoding import read_image, to_rgb8
from seg_pipeline.segmentation.manifest.finding_rules import RULES
from seg_pipeline.segmentation.manifest.table import class_names, read_masks
from seg_pipeline.segmentation.report.page import picture, render, swatch

Row = dict[Hashable, Any]
MOST_ROWS = 2000
"""Findings that the page lists; the table has all."""
MOST_PICTURES = 18
WINDOW = (1, 99)


def findings_page(
    findings: pd.DataFrame, manifest: pd.DataFrame, accounts: pd.DataFrame, files: pd.DataFrame, *, splits: pd.DataFrame
) -> str:
    """HTML.

    Args:
        accounts: what became of every row and file, as ``quality.reconcile`` tells.
        files: index of the image files, for pictures of images that were dropped.
        splits: as ``splits.split_table`` tells.
    """
    names = class_names(manifest)
    return render(
        "findings.html",
        title="Findings",
        lead=_lead(findings, manifest),
        accounts=accounts.to_dict("records"),
        counts=_counts(findings),
        rules=RULES,
        pictures=_pictures(findings, manifest, files, names),
        legend=[
            {"name": name, "source": swatch(colour)}
            for name, colour in zip(names, plotting.class_colours(len(names)), strict=True)
        ],
        splits=splits.to_dict("records"),
        folds=_folds(manifest),
        classes=names,
        findings=findings.head(MOST_ROWS).astype(object).where(findings.notna(), "").to_dict("records"),
        num_findings=len(findings),
    )


def _lead(findings: pd.DataFrame, manifest: pd.DataFrame) -> str:
    if findings.empty:
        return f"{len(manifest):,} images can be used. No problems were found."
    done = ", ".join(f"{number:,} {action}" for action, number in findings["action"].value_counts().items())
    return f"{len(manifest):,} images can be used. {len(findings):,} findings: {done}."


def _counts(findings: pd.DataFrame) -> list[Row]:
    """Number of findings by rule and action, the most severe action first, then the most frequent."""
    severity = {"dropped": 0, "repaired": 1, "flagged": 2}
    counts = findings.groupby(["rule", "action"]).size().reset_index(name="number")
    counts["order"] = counts["action"].map(severity)
    return counts.sort_values(["order", "number", "rule"], ascending=[True, False, True]).to_dict("records")


def _folds(manifest: pd.DataFrame) -> list[int]:
    """Images that validate in each fold."""
    return manifest.loc[manifest["fold"] >= 0, "fold"].value_counts().sort_index().tolist()


def _pictures(findings: pd.DataFrame, manifest: pd.DataFrame, files: pd.DataFrame, names: list[str]) -> list[Row]:
    """Some images of every rule in turn, until there are ``MOST_PICTURES``; what cannot be read has no picture."""
    named = findings[findings["image_id"].notna()].drop_duplicates(["rule", "image_id"])
    turns = named.assign(turn=named.groupby("rule").cumcount()).sort_values("turn", kind="stable")
    shown: list[Row] = []
    for finding in turns.to_dict("records"):
        if len(shown) == MOST_PICTURES:
            break
        row, file = (_first_row(table, finding["image_id"]) for table in (manifest, files))
        source = _picture(row, file, names)
        if source is not None:
            shown.append(finding | {"source": source})
    return shown


def _first_row(table: pd.DataFrame, image_id: str) -> Row | None:
    """Of an image; tables are too large to be dictionaries as a whole."""
    rows = table[table["image_id"] == image_id] if "image_id" in table else table[:0]
    return rows.head(1).to_dict("records")[0] if len(rows) else None


def _picture(row: Row | None, file: Row | None, names: list[str]) -> str | None:
    """With its masks where they could be read."""
    try:
        if row is not None:
            image = _viewable(read_image(row["path"]))
            return picture(plotting.overlay(image, read_masks(row, names) == 1))
        return None if file is None else picture(_viewable(read_image(file["path"])))
    except ValueError:  # unreadable, which is what the finding says
        return None


def _viewable(image: np.ndarray) -> np.ndarray:
    return to_rgb8(image, window=WINDOW if image.dtype == np.uint16 else None)
