"""Clean the metadata table and turn it into one row per image with its masks per class.

An annotation row says that an image has a mask of a class. What the mask is depends on ``mask_format``:
"rle" (run lengths in the table, empty if there is no mask), "files" (id of a binary mask file) or
"indexed" (id of one file that holds all classes; there is no class column).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd

from seg_pipeline.segmentation.manifest.findings import collect, findings_table, is_among, note_repairs, quarantine
from seg_pipeline.segmentation.manifest.table_forms import INDEXED, MaskFormat, RleStarts, read_form

__all__ = ["IGNORED", "INDEXED", "NO_CLASS", "MaskFormat", "clean_annotations", "pivot_annotations"]

NO_CLASS = "(none)"
"""Class name in a row that states: the image was annotated and shows no class."""

IGNORED = "ignore"
"""Class name of a mask of unlabelled pixels, which count neither in training nor in scores."""


def clean_annotations(
    metadata: pd.DataFrame,
    *,
    mask_format: MaskFormat,
    columns: Mapping[str, str | Sequence[str] | None],
    class_values: dict[str, str],
    multiple_masks: Literal["merge", "refuse", "instances"],
    ignore_values: Sequence[object] = (),
    patterns: Mapping[str, str] | None = None,
    no_mask_values: Sequence[object] = (),
    rle_starts: RleStarts = "absolute",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Usable rows, and a finding for each other row.

    Args:
        metadata: the table as read.
        mask_format: what the mask column holds.
        columns, patterns, no_mask_values, rle_starts: the form of the table; see ``read_form``.
        class_values: class name -> what the class column holds for it.
        multiple_masks: rows with the same image and class and different masks are parts of one mask
            ("merge"), one object each ("instances"), or contradict each other, so that the whole image is
            dropped ("refuse").
        ignore_values: what the class column holds for masks of unlabelled pixels.

    A column ``problem`` in ``metadata`` says why a row cannot be used. The masks of its image are then incomplete, so
    all rows of the image are dropped. A column ``repaired`` says what was repaired when the row was read.

    Returns:
        Table with the columns row, image_id, class and mask (str; "" if an RLE table states no mask), and findings.

    Raises:
        ValueError: a column is missing, or no row has a known class.
    """
    form = read_form(
        metadata,
        mask_format=mask_format,
        columns=columns,
        only_class=next(iter(class_values.values())) if len(class_values) == 1 else None,
        patterns=patterns,
        no_mask_values=no_mask_values,
        rle_starts=rle_starts,
    )
    _, repaired = note_repairs(metadata, "repaired_annotation")
    rows, unusable = _refuse_problems(form)
    needed = ["image_id", "class"] if mask_format == "rle" else ["image_id", "class", "mask"]
    rows, missing = quarantine(
        rows, rows[needed].isna().any(axis=1), "missing_value", f"one of {', '.join(needed)} is missing"
    )
    names = {str(value): name for name, value in class_values.items()}
    names |= dict.fromkeys(map(str, ignore_values), IGNORED)
    rows, unknown = _name_classes(rows, names) if mask_format != "indexed" else (rows, missing[:0])
    rows = rows.assign(mask=rows["mask"].fillna(""))
    key = ["image_id", "class", "mask"]
    rows, duplicates = quarantine(
        rows, rows.duplicated(key), "duplicate_row", "repeats an earlier row: the same image, class and mask"
    )
    rows, conflicts = (
        _refuse_conflicts(rows) if multiple_masks == "refuse" or mask_format == "indexed" else (rows, missing[:0])
    )
    return rows.reset_index(drop=True), collect(repaired, unusable, missing, unknown, duplicates, conflicts)


def _refuse_problems(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    if "problem" not in rows:
        return rows, findings_table([])
    rows, unusable = quarantine(rows, rows["problem"].notna(), "unusable_annotation", "{problem}")
    reason = "another annotation of this image cannot be used, so its masks are incomplete"
    rest, beside = quarantine(
        rows, is_among(rows["image_id"], unusable["image_id"].dropna()), "incomplete_annotation", reason
    )
    return rest.drop(columns="problem"), collect(unusable, beside)


def _name_classes(rows: pd.DataFrame, names: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows whose class value is in ``names``, with the class name, and findings; ``NO_CLASS`` stays."""
    names = {**names, NO_CLASS: NO_CLASS}
    known, unknown = quarantine(
        rows,
        ~rows["class"].isin(list(names)),
        "unknown_class",
        f"class {{class}} is not one of {', '.join(list(names)[:-1])}; declare it under `dataset.classes` if you want "
        "to use it",
    )
    if not (known["class"] != NO_CLASS).any():
        raise ValueError(
            f"no row of the metadata table has a known class: it holds {sorted(rows['class'].unique())[:8]}, but "
            f"`dataset.classes` declares {list(names)[:-1]}"
        )
    return known.assign(**{"class": known["class"].map(names)}), unknown


def _refuse_conflicts(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    clash = rows.duplicated(["image_id", "class"], keep=False)
    reason = "its image has several rows of one class with different masks, and it is unknown which is right"
    return quarantine(rows, is_among(rows["image_id"], rows.loc[clash, "image_id"]), "conflicting_rows", reason)


def pivot_annotations(annotations: pd.DataFrame, class_names: list[str]) -> pd.DataFrame:
    """One row per image: image_id, row (its first), and per class ``mask_<class>``, the list of its masks.

    A list is empty if the image has no mask of the class. ``class_names`` is ``[INDEXED]`` for that format.
    Masks of unlabelled pixels, if there are any, are in ``mask_ignore``.
    """
    filled = annotations[annotations["mask"] != ""]
    masks = filled.set_index(["image_id", "class"])["mask"].astype(object)
    if masks.index.is_unique:  # the usual case, in a fifth of the time
        masks[:] = pd.Series([[mask] for mask in masks], index=masks.index, dtype=object)
    else:
        masks = masks.groupby(level=["image_id", "class"]).agg(list)
    lists = masks.unstack("class")
    images = annotations.groupby("image_id")["row"].min().reset_index()
    names = [*class_names, IGNORED] if IGNORED in lists else class_names
    wide = lists.reindex(index=images["image_id"], columns=names)
    for name in names:
        images[f"mask_{name}"] = [value if isinstance(value, list) else [] for value in wide[name]]
    return images
