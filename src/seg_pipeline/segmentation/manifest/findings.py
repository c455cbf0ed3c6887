"""Findings: one row per problem with one input, with the action that was taken."""

import string
from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc

from seg_pipeline.segmentation.storage.column_sources import one_piece
from seg_pipeline.segmentation.storage.stored_columns import StoredDtype

Action = Literal["dropped", "repaired", "flagged"]


class Finding(NamedTuple):
    """One problem with one input.

    ``row`` is the line of the metadata table as an editor counts it (the header is line 1), if the
    finding is about a row; ``file`` is relative to the folder that was searched.
    """

    rule: str
    reason: str
    action: Action
    image_id: str | None = None
    file: str | None = None
    row: int | None = None


BLOCK = 16_384
"""Texts that are compared at once."""
COLUMNS = ["image_id", "file", "row", "rule", "reason", "action"]


def findings_table(findings: Iterable[Finding]) -> pd.DataFrame:
    """Table with ``COLUMNS``; an empty one has the same columns and types."""
    found = list(findings)
    return _table(found) if found else _no_findings().copy()


@cache
def _no_findings() -> pd.DataFrame:
    return _table([])


def _table(findings: list[Finding]) -> pd.DataFrame:
    values = dict(zip(Finding._fields, zip(*findings, strict=True), strict=False))
    types = {name: "Int64" if name == "row" else "str" for name in COLUMNS}
    return pd.DataFrame({name: pd.Series(values.get(name, ()), dtype=kind) for name, kind in types.items()})


def quarantine(
    table: pd.DataFrame, bad: pd.Series, rule: str, reason: str, action: Action = "dropped"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split a table into the rows that are not ``bad`` and findings about those that are.

    Args:
        table: any table with some of the columns image_id, file, row.
        bad: bool, one per row.
        rule, reason, action: the same for all rows; ``reason`` is formatted with the columns of each row.
    """
    if not bad.any():  # as nearly always
        return table.copy(deep=False), findings_table([])
    told = {*("image_id", "file", "row"), *(field for _, field, _, _ in string.Formatter().parse(reason))}
    found = [
        Finding(rule, reason.format_map(row), action, *(_value(row, name) for name in ("image_id", "file", "row")))
        for row in table.loc[bad, [name for name in table if name in told]].to_dict("records")  # not the masks
    ]
    return without(table, bad), findings_table(found)


def without(table: pd.DataFrame, bad: pd.Series | np.ndarray) -> pd.DataFrame:
    """``table[~bad]``, which shares the memory of ``table`` if no row is bad: most of it are masks."""
    return table[~bad] if bad.any() else table.copy(deep=False)


def quarantine_unusable(files: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Files without a ``problem`` (a column that only some indexes have), and findings about the others."""
    if "problem" not in files:
        return files, findings_table([])
    rest, found = quarantine(files, files["problem"].notna(), "unusable_file", "{problem}")
    return rest.drop(columns="problem"), found


def note_repairs(table: pd.DataFrame, rule: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table without its column ``repaired`` (which only some formats have), and a finding per text in it."""
    if "repaired" not in table:
        return table, findings_table([])
    _, found = quarantine(table, table["repaired"].notna(), rule, "{repaired}", "repaired")
    return table.drop(columns="repaired"), found


def is_among(values: pd.Series, known: pd.Series) -> pd.Series:
    """``values.isin(known)``, without a Python object per value, which would take three times the memory."""
    if values.empty or known.empty:
        return pd.Series(False, index=values.index, name=values.name)
    if all(pd.api.types.is_integer_dtype(one.dtype) and not one.hasnans for one in (values, known)):
        found = np.isin(values.to_numpy("int64"), known.to_numpy("int64"))
    elif all(isinstance(one.dtype, pd.StringDtype | StoredDtype) for one in (values, known)):
        texts, among = map(_in_arrow, (values, known))
        found = pc.is_in(texts, value_set=among).to_numpy(zero_copy_only=False)
    else:
        return values.astype(object).isin(known.astype(object))
    return pd.Series(found, index=values.index, name=values.name)


def places_in(values: pd.Series, known: pd.Series) -> np.ndarray:
    """Position of the first of the ``known`` texts that is equal to each value; -1 if there is none."""
    texts, among = map(_in_arrow, (values, known))
    return pc.index_in(texts, value_set=among).fill_null(-1).to_numpy(zero_copy_only=False)


def duplicated_text(values: pd.Series, keep: Literal["first", False] = "first") -> pd.Series:
    """``values.duplicated(keep)``. Only texts whose hash has another one are in memory at once."""
    blocks = (values.iloc[start : start + BLOCK] for start in range(0, max(1, len(values)), BLOCK))
    hashes = np.concatenate([pd.util.hash_pandas_object(one.astype("str"), index=False) for one in blocks])
    order = np.argsort(hashes)
    alike = hashes[order][1:] == hashes[order][:-1]
    found = np.zeros(len(values), dtype=bool)
    found[order[1:][alike]] = found[order[:-1][alike]] = True
    found[found] = values[found].astype("str").duplicated(keep)
    return pd.Series(found, index=values.index)


def same_texts(one: pd.Series, other: pd.Series) -> bool:
    """Whether two columns hold the same texts in the same order."""
    starts = range(0, len(one), BLOCK)
    pairs = ([_in_arrow(side.iloc[start : start + BLOCK]) for side in (one, other)] for start in starts)
    return len(one) == len(other) and all(first.equals(second) for first, second in pairs)


def _in_arrow(texts: pd.Series) -> pa.Array:
    return one_piece(pa.array(texts.array, pa.large_string()))


def _value(row: dict, name: str) -> Any:
    return None if pd.isna(row.get(name)) else row[name]


def collect(*tables: pd.DataFrame) -> pd.DataFrame:
    """All findings in one table, sorted by rule and image."""
    return pd.concat(tables, ignore_index=True).sort_values(["rule", "image_id", "row"], ignore_index=True)


def describe(findings: pd.DataFrame) -> str:
    """Number and first example of what each rule dropped, as text; "" if nothing was."""
    dropped = findings[findings["action"] == "dropped"]
    parts = []
    for rule, rows in dropped.groupby("rule"):
        first = rows.iloc[0]
        place = first["file"] if pd.notna(first["file"]) else first["image_id"]
        line = f"row {first['row']}" if pd.notna(first["row"]) else None
        where = ", ".join(str(one) for one in (line, place) if pd.notna(one))
        parts.append(f"{len(rows)} x {rule}, such as {where}: {first['reason']}")
    return "; ".join(parts)


def counts(findings: pd.DataFrame) -> dict[str, int]:
    """Number of findings by "rule (action)"."""
    kinds = findings["rule"] + " (" + findings["action"] + ")"
    return {str(kind): int(number) for kind, number in kinds.value_counts(sort=False).sort_index().items()}


def reconcile(
    num_rows: int,
    annotations: pd.DataFrame,
    files: pd.DataFrame,
    manifest: pd.DataFrame,
    findings: pd.DataFrame,
) -> pd.DataFrame:
    """Check that no input was lost: columns input (rows or files), read, kept and set_aside.

    Every row of the metadata and every image file must be in the manifest or have a finding.

    Args:
        num_rows: of the metadata as read. ``annotations``: its usable rows. ``files``: the index of the image files.
        manifest: the usable images. ``findings``: all findings.

    Raises:
        ValueError: an input is in neither; this is a bug.
    """
    dropped = findings[findings["action"] == "dropped"]
    lost_images = dropped["image_id"].dropna()
    place, ids = pd.factorize(annotations["image_id"])
    kept, lost = (
        is_among(pd.Series(ids, dtype="str"), one).to_numpy()[place] for one in (manifest["image_id"], lost_images)
    )
    blank = findings.loc[findings["rule"] == "blank_line", "row"]
    lines = pd.Series(range(2, num_rows + 2), dtype="int64")
    aside = pd.concat([dropped["row"].dropna(), annotations.loc[lost, "row"], blank])
    of_rows = is_among(lines, annotations.loc[kept, "row"]), is_among(lines, aside)
    of_lost = is_among(files["file"], dropped["file"].dropna()) | is_among(files["image_id"], lost_images)
    of_files = is_among(files["file"], manifest["file"]), of_lost
    return pd.DataFrame([_balance("rows", lines, *of_rows), _balance("files", files["file"], *of_files)])


def _balance(name: str, read: pd.Series, kept: pd.Series, aside: pd.Series) -> dict[str, Any]:
    set_aside = aside & ~kept
    lost = read[~kept & ~set_aside]
    if len(lost):
        raise ValueError(
            f"{len(lost)} of {len(read)} {name} are neither in the manifest nor in a finding, such as "
            f"{lost.min()}; this is a bug in seg_pipeline; please report it"
        )
    return {"input": name, "read": len(read), "kept": int(kept.sum()), "set_aside": int(set_aside.sum())}


def refuse_dropped(findings: pd.DataFrame) -> None:
    """Stop if an input was dropped.

    Raises:
        ValueError: a finding's action is "dropped".
    """
    dropped = findings[findings["action"] == "dropped"]
    if len(dropped):
        first = dropped.iloc[0]
        raise ValueError(
            f"{len(dropped)} inputs were dropped, which `data_processing.strict: true` forbids; the first: "
            f"{first['rule']}, {first['image_id']}: {first['reason']}"
        )
