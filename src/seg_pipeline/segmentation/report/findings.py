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
MAX_ROWS = 2000
"""Findings that the page lists; findings.parquet has all of them."""
MAX_PICTURES = 18
SIDE = 384
"""Longer side of an image, in pixels."""


def findings_page(
    findings: pd.DataFrame, manifest: pd.DataFrame, accounts: pd.DataFrame, files: pd.DataFrame, *, splits: pd.DataFrame
) -> str:
    """The findings page as HTML.

    ``accounts`` holds the number of rows and files read, kept and not used; ``files``, the index of the image files,
    is used to show dropped images; ``splits`` is the result of ``split_checks.split_table``.
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
        num_pictured=len(_with_image(findings)),
        legend=[
            {"name": name, "source": swatch(colour)}
            for name, colour in zip(names, class_colours(len(names)), strict=True)
        ],
        splits=splits.to_dict("records"),
        folds=manifest.loc[manifest["fold"] >= 0, "fold"].value_counts().sort_index().tolist(),
        classes=names,
        findings=[
            _without_file(row)
            for row in findings.head(MAX_ROWS).astype(object).where(findings.notna(), "").to_dict("records")
        ],
        num_findings=len(findings),
    )


def _lead(findings: pd.DataFrame, manifest: pd.DataFrame) -> str:
    if findings.empty:
        return f"{plural(len(manifest), 'image')} can be used. No problems were found."
    counts = ", ".join(f"{number:,} {action}" for action, number in findings["action"].value_counts().items())
    return f"{plural(len(manifest), 'image')} can be used. {plural(len(findings), 'finding')}: {counts}."


def _explanation(findings: pd.DataFrame, accounts: pd.DataFrame) -> str:
    """A sentence that relates the number of unused inputs to the number of findings."""
    dropped = int((findings["action"] == "dropped").sum())
    unused = [(row["set_aside"], row["input"].removesuffix("s")) for row in accounts.to_dict("records")]
    unused_text = " and ".join(plural(number, f"unused {word}") for number, word in unused if number)
    if not unused_text:
        return "Every input is used."
    return (
        f"{plural(dropped, 'finding')} with the action dropped {'explains' if dropped == 1 else 'explain'} the "
        f"{unused_text}: a finding about an image covers all of its rows."
    )


def _counts(findings: pd.DataFrame) -> list[Row]:
    """Number of findings by rule and action, the most severe action first, then the most frequent."""
    severity = {"dropped": 0, "repaired": 1, "flagged": 2}
    counts = findings.groupby(["rule", "action"]).size().reset_index(name="number")
    counts["order"] = counts["action"].map(severity)
    return counts.sort_values(["order", "number", "rule"], ascending=[True, False, True]).to_dict("records")


def _pictures(findings: pd.DataFrame, manifest: pd.DataFrame, files: pd.DataFrame, names: list[str]) -> list[Row]:
    """At most ``MAX_PICTURES`` findings with an image, taking rules in turn, each with source or a reason for none."""
    with_image = _with_image(findings)
    turns = with_image.assign(turn=with_image.groupby("rule").cumcount()).sort_values("turn", kind="stable")
    shown: list[Row] = []
    for finding in turns.head(MAX_PICTURES).to_dict("records"):
        row, file = (_first_row(table, finding["image_id"]) for table in (manifest, files))
        blank = "no image file" if row is None and file is None else "cannot be read"
        shown.append(_without_file(finding) | {"source": _picture(row, file, names), "blank": blank})
    return shown


def _without_file(finding: Row) -> Row:
    """The finding, without the path at the start of its reason if that repeats the file."""
    path, _, rest = finding["reason"].partition(": ")
    repeats_file = rest and finding["file"] and Path(path).as_posix().endswith(str(finding["file"]))
    return finding | {"reason": rest} if repeats_file else finding


def _with_image(findings: pd.DataFrame) -> pd.DataFrame:
    return findings[findings["image_id"].notna()].drop_duplicates(["rule", "image_id"])


def _first_row(table: pd.DataFrame, image_id: str) -> Row | None:
    """The first row of this image; None if there is none."""
    rows = table[table["image_id"] == image_id] if "image_id" in table else table[:0]
    return rows.head(1).to_dict("records")[0] if len(rows) else None


def _picture(row: Row | None, file: Row | None, names: list[str]) -> str | None:
    """Data URL of the image, with its masks if they can be read; None if the image cannot be read."""
    try:
        if row is not None:
            image = read_for_display(row["path"])
            return jpeg_url(overlay(image, read_masks(row, names) == 1), max_side=SIDE)
        return None if file is None else jpeg_url(read_for_display(file["path"]), max_side=SIDE)
    except ValueError:  # the finding already says that the image is unreadable
        return None
