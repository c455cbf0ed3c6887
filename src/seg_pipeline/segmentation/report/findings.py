"""The findings page: inputs read and kept, findings by rule, example images, splits, and all findings."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.images.intensities import read_for_display
from seg_pipeline.segmentation.manifest.finding_rules import RULES
from seg_pipeline.segmentation.manifest.table import class_names, read_masks
from seg_pipeline.segmentation.plotting.overlays import overlay
from seg_pipeline.segmentation.plotting.style import class_colours
from seg_pipeline.segmentation.report.page import jpeg_url, render, swatch
from seg_pipeline.segmentation.report.results import plural

Row = dict[Hashable, Any]
MOST_ROWS = 2000
"""Findings that the page lists; findings.parquet has all."""
MOST_PICTURES = 18
SIDE = 384
"""Longer side in pixels of an image."""


def findings_page(
    findings: pd.DataFrame, manifest: pd.DataFrame, accounts: pd.DataFrame, files: pd.DataFrame, *, splits: pd.DataFrame
) -> str:
    """The findings page as HTML.

    ``accounts`` says how many rows and files were read, kept and not used; ``files`` is the index of the image files,
    to show images that were dropped; ``splits`` is from ``split_checks.split_table``.
    """
    names = class_names(manifest)
    return render(
        "findings.html",
        title="Findings",
        lead=_lead(findings, manifest),
        accounts=accounts.to_dict("records"),
        explanation=_explanation(findings, accounts),
        counts=_counts(findings),
        rules=RULES,
        pictures=_pictures(findings, manifest, files, names),
        num_pictured=len(_about_images(findings)),
        legend=[
            {"name": name, "source": swatch(colour)}
            for name, colour in zip(names, class_colours(len(names)), strict=True)
        ],
        splits=splits.to_dict("records"),
        folds=manifest.loc[manifest["fold"] >= 0, "fold"].value_counts().sort_index().tolist(),
        classes=names,
        findings=[
            _short(row)
            for row in findings.head(MOST_ROWS).astype(object).where(findings.notna(), "").to_dict("records")
        ],
        num_findings=len(findings),
    )


def _lead(findings: pd.DataFrame, manifest: pd.DataFrame) -> str:
    if findings.empty:
        return f"{plural(len(manifest), 'image')} can be used. No problems were found."
    done = ", ".join(f"{number:,} {action}" for action, number in findings["action"].value_counts().items())
    return f"{plural(len(manifest), 'image')} can be used. {plural(len(findings), 'finding')}: {done}."


def _explanation(findings: pd.DataFrame, accounts: pd.DataFrame) -> str:
    """How the number of unused inputs and that of findings fit together."""
    dropped = int((findings["action"] == "dropped").sum())
    unused = [(row["set_aside"], row["input"].removesuffix("s")) for row in accounts.to_dict("records")]
    said = " and ".join(plural(number, f"unused {word}") for number, word in unused if number)
    if not said:
        return "Every input is used."
    return (
        f"{plural(dropped, 'finding')} with the action dropped {'explains' if dropped == 1 else 'explain'} the {said}: "
        "a finding about an image covers all of its rows."
    )


def _counts(findings: pd.DataFrame) -> list[Row]:
    """Number of findings by rule and action, the most severe action first, then the most frequent."""
    severity = {"dropped": 0, "repaired": 1, "flagged": 2}
    counts = findings.groupby(["rule", "action"]).size().reset_index(name="number")
    counts["order"] = counts["action"].map(severity)
    return counts.sort_values(["order", "number", "rule"], ascending=[True, False, True]).to_dict("records")


def _pictures(findings: pd.DataFrame, manifest: pd.DataFrame, files: pd.DataFrame, names: list[str]) -> list[Row]:
    """At most ``MOST_PICTURES`` findings about an image, from every rule in turn, with source or why it is blank."""
    named = _about_images(findings)
    turns = named.assign(turn=named.groupby("rule").cumcount()).sort_values("turn", kind="stable")
    shown: list[Row] = []
    for finding in turns.head(MOST_PICTURES).to_dict("records"):
        row, file = (_first_row(table, finding["image_id"]) for table in (manifest, files))
        blank = "no image file" if row is None and file is None else "cannot be read"
        shown.append(_short(finding) | {"source": _picture(row, file, names), "blank": blank})
    return shown


def _short(finding: Row) -> Row:
    """The finding whose reason does not repeat where its file is."""
    place, _, rest = finding["reason"].partition(": ")
    told = rest and finding["file"] and Path(place).as_posix().endswith(str(finding["file"]))
    return finding | {"reason": rest} if told else finding


def _about_images(findings: pd.DataFrame) -> pd.DataFrame:
    return findings[findings["image_id"].notna()].drop_duplicates(["rule", "image_id"])


def _first_row(table: pd.DataFrame, image_id: str) -> Row | None:
    """The first row of this image; None if there is none."""
    rows = table[table["image_id"] == image_id] if "image_id" in table else table[:0]
    return rows.head(1).to_dict("records")[0] if len(rows) else None


def _picture(row: Row | None, file: Row | None, names: list[str]) -> str | None:
    """Data URL of an image, with its masks if they could be read; None if the image cannot be read."""
    try:
        if row is not None:
            image = read_for_display(row["path"])
            return jpeg_url(overlay(image, read_masks(row, names) == 1), max_side=SIDE)
        return None if file is None else jpeg_url(read_for_display(file["path"]), max_side=SIDE)
    except ValueError:  # the finding itself says that the image is unreadable
        return None
