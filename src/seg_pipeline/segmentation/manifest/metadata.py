"""Clean the metadata table and turn it into one row per image with its masks per class.

An annotation row says that an image has a mask of a class. What the mask is depends on ``mask_format``:
"rle" (run lengths in the table, empty if there is no mask), "files" (id of a binary mask file) or
"indexed" (id of one file that holds all classes; there is no class column).
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.extensions import ExtensionArray

from seg_pipeline.segmentation.manifest.findings import (
    Finding,
    collect,
    describe,
    findings_table,
    is_among,
    note_repairs,
    quarantine,
    without,
)
from seg_pipeline.segmentation.manifest.table_forms import INDEXED, MaskFormat, RleStarts, blocks_of_ids, read_form
from seg_pipeline.segmentation.storage.stored_columns import ColumnWriter, StoredColumn, StoredDtype

__all__ = ["IGNORED", "INDEXED", "NO_CLASS", "MaskFormat", "clean_annotations", "pivot_annotations"]

NO_CLASS = "(none)"
"""Class name in a row that states: the image was annotated and shows no class."""

PART_ROWS = 262_144
"""Rows of a table on disk that are cleaned at once."""
EMPTY = pd.Series(dtype="str")

IGNORED = "(ignore)"
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
    all rows of the image are dropped, as for a mask whose class is missing. A column ``repaired`` says what was
    repaired when the row was read.

    Returns:
        Table with the columns row, image_id, class and mask (str; "" if there is no mask), and findings.

    Raises:
        ValueError: a column is missing, or no row has a known class. An empty table stays empty.
    """
    read = partial(
        read_form,
        mask_format=mask_format,
        columns=columns,
        only_class=next(iter(class_values.values())) if len(class_values) == 1 else None,
        patterns=patterns,
        no_mask_values=no_mask_values,
        rle_starts=rle_starts,
        silent="" if mask_format == "rle" else None,  # at once, as it is a copy of all masks
    )
    names = {str(value): name for name, value in class_values.items()}
    names |= dict.fromkeys(map(str, ignore_values), IGNORED)
    refuse = multiple_masks == "refuse" or mask_format == INDEXED
    clean = partial(_clean, read=read, mask_format=mask_format, names=names, refuse=refuse)
    if patterns or not isinstance(metadata.get(str(columns["image_id"]), EMPTY).dtype, StoredDtype):
        rows, findings, held = clean(metadata)
        shown = bool((rows["class"] != NO_CLASS).any())
    else:
        rows, findings, held, shown = _clean_parts(metadata, str(columns["image_id"]), clean)
    if len(metadata) and not shown:
        _refuse_all(held, names, findings)
    return rows, findings


def _clean_parts(
    metadata: pd.DataFrame, image_id: str, clean: Callable[[pd.DataFrame], tuple[pd.DataFrame, pd.DataFrame, set[str]]]
) -> tuple[pd.DataFrame, pd.DataFrame, set[str], bool]:
    """``clean`` of the rows of some images after those of others, so that few are in memory; the result is on disk."""
    number = -(-len(metadata) // PART_ROWS)
    part = np.concatenate([_part_of(ids, number) for ids in blocks_of_ids(metadata[image_id])])
    found, texts = [findings_table([])], {name: ColumnWriter() for name in ("image_id", "class")}
    lines, masks, held, shown = [], [], set(), False
    for at in range(number):
        places = np.flatnonzero(part == at)
        rows, findings, values = clean(metadata.take(places))
        held |= values
        shown |= bool((rows["class"] != NO_CLASS).any())
        known = findings["row"].notna()
        findings.loc[known, "row"] = places[findings.loc[known, "row"].astype("int64") - 2] + 2
        found.append(findings)
        lines.append(places[rows["row"] - 2] + 2)
        masks.append(rows["mask"])
        for name, writer in texts.items():
            writer.append(pa.array(rows[name].array, pa.large_string()))
    row = np.concatenate(lines)
    order = np.argsort(row, kind="stable")
    columns = {name: writer.column().take(order) for name, writer in texts.items()}
    columns["mask"] = pd.concat(masks, ignore_index=True).array.take(order)
    return pd.DataFrame({"row": row[order], **columns}, copy=False), collect(*found), held, shown


def _part_of(ids: pd.Series, number: int) -> np.ndarray:
    return (pd.util.hash_pandas_object(ids, index=False).to_numpy() % number).astype(np.int16)


def _clean(
    metadata: pd.DataFrame,
    *,
    read: Callable[[pd.DataFrame], pd.DataFrame],
    mask_format: MaskFormat,
    names: dict[str, str],
    refuse: bool,
) -> tuple[pd.DataFrame, pd.DataFrame, set[str]]:
    """Usable rows, findings, and what the class column holds."""
    rows = read(metadata)
    _, repaired = note_repairs(metadata, "repaired_annotation")
    rows, blank = _without_blank_lines(rows, metadata)
    rows, unusable = _refuse_problems(_with_files(rows, metadata, mask_format))
    rows, missing = _refuse_missing(rows, mask_format)
    held = set(rows["class"].unique())
    rows, unknown = _name_classes(rows, names) if mask_format != INDEXED else (rows, missing[:0])
    rows, unmasked = _note_blank_masks(rows, mask_format)
    rows, duplicates = quarantine(
        rows, _repeated(rows), "duplicate_row", "repeats an earlier row: the same image, class and mask"
    )
    rows, conflicts = _refuse_conflicts(rows) if refuse else (rows, missing[:0])
    findings = collect(repaired, blank, unusable, missing, unknown, unmasked, duplicates, conflicts)
    return rows[["row", "image_id", "class", "mask"]].reset_index(drop=True), findings, held


def _without_blank_lines(form: pd.DataFrame, metadata: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    lines = np.flatnonzero(metadata.isna().all(axis=1)) + 2
    found = [Finding("blank_line", "the line is blank", "flagged", row=int(line)) for line in lines]
    return without(form, form["row"].isin(lines)), findings_table(found)


def _with_files(rows: pd.DataFrame, metadata: pd.DataFrame, mask_format: MaskFormat) -> pd.DataFrame:
    """In an index of mask files, two files may give one id: each row is a file, which findings should name."""
    if mask_format == "rle" or not {"path", "file"} <= set(metadata):
        return rows
    return rows.assign(file=metadata["file"].to_numpy()[rows["row"] - 2])


def _refuse_problems(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    if "problem" not in rows:
        return rows, findings_table([])
    rows, unusable = quarantine(rows, rows["problem"].notna(), "unusable_annotation", "{problem}")
    rest, beside = _refuse_rest_of(rows, unusable["image_id"], "another annotation of this image cannot be used")
    return rest.drop(columns="problem"), collect(unusable, beside)


def _refuse_rest_of(rows: pd.DataFrame, image_ids: pd.Series, why: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    among = is_among(rows["image_id"], image_ids.dropna())
    return quarantine(rows, among, "incomplete_annotation", f"{why}, so its masks are incomplete")


def _refuse_missing(rows: pd.DataFrame, mask_format: MaskFormat) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows with an image and a class. A mask of an unknown class takes its image along."""
    needed = ["image_id", "class", "mask"] if mask_format == INDEXED else ["image_id", "class"]
    bad = rows[needed].isna().any(axis=1)
    lost = rows.loc[bad & rows["mask"].notna() & (rows["mask"] != ""), "image_id"]
    reason = f"one of {', '.join(needed)} is missing"
    reason += ": the name of the mask file does not match `pattern` of `raw_metadata`" if "file" in rows else ""
    rows, missing = quarantine(rows, bad, "missing_value", reason)
    rest, beside = _refuse_rest_of(rows, lost, "another row of this image has a mask without a class")
    return rest, collect(missing, beside)


def _name_classes(rows: pd.DataFrame, names: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows with the names of their classes, and a finding for each whose value is not in ``names``.

    An image that shows unknown classes alone was looked at: it stays, as one without objects (``NO_CLASS``).
    """
    names = {**names, NO_CLASS: NO_CLASS}
    bad = ~rows["class"].isin(list(names))
    alone = bad.copy()
    alone[bad] = ~is_among(rows.loc[bad, "image_id"], rows.loc[~bad, "image_id"])
    reason = (
        f"class {{class}} is not one of {', '.join(list(names)[:-1])}; declare it under `dataset.classes` if you want "
        "to use it"
    )
    _, beside = quarantine(rows, bad & ~alone, "unknown_class", reason)
    kept = "; the image shows no other class and stays, as an image without objects"
    _, of_alone = quarantine(rows, alone, "unknown_class", reason + kept)
    empty = rows[alone].drop_duplicates("image_id").assign(**{"class": NO_CLASS, "mask": ""})
    known = without(rows, bad)
    if len(empty):
        known = pd.concat([known, empty])
    known = known.sort_index(kind="stable")
    place, values = pd.factorize(known["class"])
    named = pd.array([names[value] for value in values], dtype="str").take(place)
    return known.assign(**{"class": named}), collect(beside, of_alone)


def _note_blank_masks(rows: pd.DataFrame, mask_format: MaskFormat) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows whose blank masks are "", and a finding for each where a file is expected: run lengths may be empty."""
    blank = rows["mask"].isna()
    reason = "the row names no mask file, so the image is taken to have no mask of {class}"
    _, found = quarantine(
        rows, blank & (mask_format == "files") & (rows["class"] != NO_CLASS), "blank_mask", reason, "flagged"
    )
    return rows.assign(mask=rows["mask"].fillna("")) if blank.any() else rows, found


def _repeated(rows: pd.DataFrame) -> pd.Series:
    """Which rows repeat an earlier one. Only masks of rows of one image and class are compared, as they are long."""
    found = _of_one_class(rows)
    key = [name for name in ("image_id", "class", "mask", "file") if name in rows]
    found[found] = rows[found].astype({"mask": "str"}).duplicated(key)
    return found


def _of_one_class(rows: pd.DataFrame) -> pd.Series:
    """Which rows share image and class with another one."""
    (image, _), (class_, classes) = (pd.factorize(rows[name]) for name in ("image_id", "class"))
    key = image * len(classes) + class_  # of numbers it takes half the memory of ``duplicated``
    order = np.argsort(key, kind="stable")
    alike = np.diff(key[order]) == 0
    found = np.zeros(len(rows), dtype=bool)
    found[order[1:][alike]] = found[order[:-1][alike]] = True
    return pd.Series(found, index=rows.index)


def _refuse_all(held: set[str], names: dict[str, str], findings: pd.DataFrame) -> None:
    """Raise ValueError: no row shows a known class."""
    reasons = describe(findings) or "every row states that its image shows no class"
    if (findings["rule"] == "unknown_class").any():
        reasons += f"; the class column holds {sorted(held)[:8]}"
    raise ValueError(f"no row of the metadata table shows a class of `dataset.classes`, {list(names)}: {reasons}")


def _refuse_conflicts(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    clash = _of_one_class(rows)
    reason = "its image has several rows of one class with different masks, and it is unknown which is right"
    return quarantine(rows, is_among(rows["image_id"], rows.loc[clash, "image_id"]), "conflicting_rows", reason)


def pivot_annotations(annotations: pd.DataFrame, class_names: list[str]) -> pd.DataFrame:
    """One row per image: image_id, row (its first), and per class ``mask_<class>``, the list of its masks.

    A list is empty if the image has no mask of the class. ``class_names`` is ``[INDEXED]`` for that format.
    Masks of unlabelled pixels, if there are any, are in ``mask_(ignore)``.
    """
    place, ids = _sorted_codes(annotations["image_id"])
    first = np.full(len(ids), np.iinfo(np.int64).max)
    np.minimum.at(first, place, annotations["row"].to_numpy("int64"))
    images = pd.DataFrame({"image_id": ids, "row": first})
    class_, known = pd.factorize(annotations["class"])
    class_ = class_.astype(np.int32)
    class_[(annotations["mask"] == "").to_numpy()] = -1
    number_of = {name: number for number, name in enumerate(known)}
    names = [*class_names, IGNORED] if (class_ == number_of.get(IGNORED, len(known))).any() else class_names
    masks = {}
    for name in names:
        rows = np.flatnonzero(class_ == number_of.get(name, len(known)))
        masks[f"mask_{name}"] = _lists(annotations["mask"], rows, place[rows], len(ids))
    return pd.concat([images, pd.DataFrame(masks, index=images.index)], axis=1)  # at once: there may be hundreds


def _sorted_codes(texts: pd.Series) -> tuple[np.ndarray, ExtensionArray]:
    """The place of each text among the different ones, which are sorted."""
    codes, values = pd.factorize(texts)
    different = pd.Series(values, dtype="str").array
    order = different.argsort()
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order))
    return place[codes], different.take(order)


def _lists(masks: pd.Series, rows: np.ndarray, place: np.ndarray, number: int) -> list[list[str]] | StoredColumn:
    """The masks of each image, whose number is the ``place`` of a row, in the order of the rows."""
    chosen = masks.array[rows[np.argsort(place, kind="stable")]]
    ends = np.cumsum([0, *np.bincount(place, minlength=number)])
    if isinstance(chosen, StoredColumn):
        return chosen.in_lists(ends)
    texts = list(chosen)
    return [texts[start:end] for start, end in itertools.pairwise(ends)]
