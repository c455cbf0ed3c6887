"""The metadata table as people keep it -> one row an image, with its masks per class.

An annotation row says: this image has this mask of this class. What the mask is depends on ``mask_format``:
"rle" (run lengths in the table, empty where there is no mask), "files" (id of a binary mask file) or
"indexed" (id of one file that holds all classes; there is no class column).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from seg_pipeline.segmentation.manifest.findings import collect, findings_table, is_among, quarantine

MaskFormat = Literal["rle", "files", "indexed"]

INDEXED = "indexed"
"""Stands for the class of an annotation whose file holds all classes."""

NO_CLASS = "(none)"
"""Class column of a row that says: this image was looked at and shows no class."""

IGNORED = "ignore"
"""Stands for the class of a mask whose pixels' truth is not known."""


def clean_annotations(
    metadata: pd.DataFrame,
    *,
    mask_format: MaskFormat,
    columns: dict[str, str],
    class_values: dict[str, str],
    multiple_masks: Literal["merge", "refuse", "instances"],
    ignore_values: Sequence[object] = (),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows that can be used, and a finding for each that cannot.

    Args:
        metadata: the table as read.
        mask_format: what the mask column holds.
        columns: name in ``metadata`` of "image_id", "class" (not for "indexed") and "mask".
        class_values: class name -> what the class column holds for it.
        multiple_masks: rows with the same image and class and different masks are parts of one mask
            ("merge"), an object each ("instances"), or contradict each other, so that the whole image is
            dropped ("refuse").
        ignore_values: what the class column holds where the mask's pixels are of unknown truth.

    A column ``problem`` in ``metadata`` says why a row cannot be used: its image's truth is incomplete, so all
    rows of the image go.

    Returns:
        Columns row, image_id, class, mask (str; "" where an RLE table says: no mask), and findings.

    Raises:
        ValueError: a column is missing, or not one row has a known class.
    """
    rows, unusable = _refuse_problems(_select(metadata, mask_format, columns))
    needed = ["image_id", "class"] if mask_format == "rle" else ["image_id", "class", "mask"]
    rows, missing = quarantine(
        rows, rows[needed].isna().any(axis=1), "missing_value", f"one of {', '.join(needed)} is missing"
    )
    names = {str(value): name for name, value in class_values.items()}
    names |= dict.fromkeys(map(str, ignore_values), IGNORED)
    rows, unknown = _name_classes(rows, names) if mask_format != "indexed" else (rows, missing[:0])
    rows = rows.assign(mask=rows["mask"].fillna(""))
    key = ["image_id", "class", "mask"]
    rows, duplicates = quarantine(rows, rows.duplicated(key), "duplicate_row", "the same image, class and mask again")
    rows, conflicts = (
        _refuse_conflicts(rows) if multiple_masks == "refuse" or mask_format == "indexed" else (rows, missing[:0])
    )
    return rows.reset_index(drop=True), collect(unusable, missing, unknown, duplicates, conflicts)


def _select(metadata: pd.DataFrame, mask_format: MaskFormat, columns: dict[str, str]) -> pd.DataFrame:
    wanted = {name: column for name, column in columns.items() if not (mask_format == "indexed" and name == "class")}
    if absent := [column for column in wanted.values() if column not in metadata]:
        raise ValueError(
            f"metadata table lacks the columns {absent}; it has {list(metadata.columns)}. "
            "Name the right ones under `data_processing.annotations.columns`"
        )
    rows = pd.DataFrame({name: _as_text(metadata[column]) for name, column in wanted.items()})
    rows.insert(0, "row", range(2, len(rows) + 2))  # line 1 is the header
    if "problem" in metadata:
        rows["problem"] = metadata["problem"]
    return rows.assign(**{"class": INDEXED}) if mask_format == "indexed" else rows


def _as_text(column: pd.Series) -> pd.Series:
    """Text of each value; whole numbers that a missing neighbour made floats read as whole again."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype("str").str.strip().where(column.notna())


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
    """Rows whose class, as ``names`` calls it by its value, is known, and findings; ``NO_CLASS`` stays."""
    names = {**names, NO_CLASS: NO_CLASS}
    known, unknown = quarantine(
        rows,
        ~rows["class"].isin(list(names)),
        "unknown_class",
        f"class {{class}} is none of {', '.join(list(names)[:-1])}; declare it under `dataset.classes` if it is wanted",
    )
    if not (known["class"] != NO_CLASS).any():
        raise ValueError(
            f"no row of the metadata table has a known class: it holds {sorted(rows['class'].unique())[:8]}, but "
            f"`dataset.classes` declares {list(names)[:-1]}"
        )
    return known.assign(**{"class": known["class"].map(names)}), unknown


def _refuse_conflicts(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    clash = rows.duplicated(["image_id", "class"], keep=False)
    reason = "its image has rows of one class with different masks, and which is right cannot be told"
    return quarantine(rows, is_among(rows["image_id"], rows.loc[clash, "image_id"]), "conflicting_rows", reason)


def pivot_annotations(annotations: pd.DataFrame, class_names: list[str]) -> pd.DataFrame:
    """One row an image: image_id, row (its first), and per class ``mask_<class>``, the list of its masks.

    A list is empty where the image has no mask of the class. ``class_names`` is ``[INDEXED]`` for that form.
    Where there are masks of unknown truth, they come as ``mask_ignore``.
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
