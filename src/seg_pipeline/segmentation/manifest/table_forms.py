"""Read image_id, class and mask from the forms that metadata tables have."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from seg_pipeline.segmentation.storage.column_sources import one_piece
from seg_pipeline.segmentation.storage.stored_columns import ColumnWriter, StoredDtype

MaskFormat = Literal["rle", "files", "indexed"]
RleStarts = Literal["absolute", "relative"]

INDEXED = "indexed"
"""Class name of an annotation whose file holds all classes."""

BLOCK = 16_384
"""Rows whose masks are read at once."""

MISSING = ("nan", "NaN", "NA", "N/A", "None", "null", "NULL")
"""What programs write for missing run lengths. A class or an image may have these names, so tables are read as text."""


def read_form(
    metadata: pd.DataFrame,
    *,
    mask_format: MaskFormat,
    columns: Mapping[str, str | Sequence[str] | None],
    only_class: str | None = None,
    patterns: Mapping[str, str] | None = None,
    no_mask_values: Sequence[object] = (),
    rle_starts: RleStarts = "absolute",
    silent: str | None = None,
) -> pd.DataFrame:
    r"""Table with the columns row (line of the file), image_id, class, mask and, if there are any, problem.

    Args:
        columns: names of the columns "image_id", "class" and "mask". In a list of mask columns, each holds the masks
            of one class and is named after the class's value. Class None: all rows belong to ``only_class``.
        patterns: column -> regular expression for its whole value, whose named groups become columns. In ids and
            names of mask files ``\`` counts as ``/``.
        no_mask_values: what the mask column holds if the image has no mask of the class; such a mask is "".
        rle_starts: "relative" if starts count from the end of the previous run.
        silent: mask of a row that says nothing about it; None: NA.

    Raises:
        ValueError: a column is missing, a pattern is faulty, or there is no class column and no ``only_class``.
    """
    nothing = list(map(str, no_mask_values))
    given, problem = _with_groups(metadata, patterns or {}, nothing)
    mask, class_ = columns["mask"], columns.get("class")
    masks = [mask] if isinstance(mask, str) else list(mask or ())

    def read_masks(texts: pd.Series) -> pd.Series:
        read = _as_mask(as_text(texts), mask_format, nothing, rle_starts)
        return read if silent is None else read.fillna(silent)

    wide = not isinstance(mask, str)
    named = [] if wide or class_ is None or mask_format == INDEXED else [str(class_)]
    image_id = str(columns["image_id"])
    if absent := [name for name in (image_id, *named, *masks) if name not in given]:
        raise ValueError(
            f"the metadata table lacks the columns {absent}; it has {list(given.columns)}. "
            "Set the right names under `data_processing.annotations.columns`"
        )
    if not (wide or named or mask_format == INDEXED) and only_class is None:
        raise ValueError("`annotations.columns.class` is null, so there must be exactly one class")
    one = INDEXED if mask_format == INDEXED else only_class
    parts = [
        pd.DataFrame(
            {
                "row": np.arange(2, len(given) + 2),  # line 1 is the header
                "image_id": _by_blocks(given[image_id], _as_id),
                "class": _by_blocks(given[named[0]], as_text) if named else name if wide else one,
                "mask": _masks(given[name], read_masks),
                **({} if problem is None else {"problem": problem}),
            }
        )
        for name in masks
    ]
    return pd.concat(parts).sort_values("row", kind="stable", ignore_index=True) if wide else parts[0]


def _with_groups(
    metadata: pd.DataFrame, patterns: Mapping[str, str], nothing: list[str]
) -> tuple[pd.DataFrame, pd.Series | None]:
    """The table with the groups of the patterns as columns, and what is wrong with rows that do not match."""
    given, problem = metadata, metadata.get("problem")
    for column, pattern in patterns.items():
        if column not in metadata:
            raise ValueError(
                f"`annotations.patterns` names the column {column!r}; the table has {list(metadata.columns)}"
            )
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(
                f"`annotations.patterns`: {pattern!r} is not a valid regular expression: {error}"
            ) from None
        texts = _as_path(as_text(metadata[column]))
        found = texts.str.extract(f"^(?:{pattern})$", expand=True)
        given = given.assign(**{name: found[name].mask(texts.isin(nothing), texts) for name in groups})
        bad = texts.notna() & ~texts.isin(nothing) & found[list(groups)].isna().all(axis=1)
        if bad.any():
            reason = f"{column} is " + texts.astype(str) + f", which does not match its pattern {pattern}"
            problem = reason.where(bad, None) if problem is None else problem.fillna(reason.where(bad, None))
    return given, problem


def as_text(column: pd.Series) -> pd.Series:
    """Text in Unicode's form NFC without outer blanks, NA if empty; numbers made floats by missing values are whole."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    text = column.astype("str").str.strip()
    text = text if text.str.isascii().all() else text.str.normalize("NFC")
    return text.where(column.notna() & (text != ""))


def _by_blocks(column: pd.Series, clean: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """``clean(column)``, of texts block by block: each of its steps is a copy."""
    stored = isinstance(column.dtype, StoredDtype)
    if not stored and (len(column) <= BLOCK or not pd.api.types.is_string_dtype(column.dtype)):
        return clean(column)
    whole = pd.concat([clean(one) for one in _blocks(column)])
    joined = one_piece(pa.array(whole.array))  # else each selection of rows joins the blocks
    return pd.Series(pd.array(joined, dtype="str"), index=whole.index)


def blocks_of_ids(column: pd.Series) -> Iterator[pd.Series]:
    """The image ids that ``read_form`` reads from a column."""
    return map(_as_id, _blocks(column))


def _as_id(texts: pd.Series) -> pd.Series:
    return _as_path(as_text(texts))


def _blocks(column: pd.Series) -> Iterator[pd.Series]:
    for start in range(0, max(1, len(column)), BLOCK):
        block = column.iloc[start : start + BLOCK]
        yield block.astype("str") if isinstance(block.dtype, StoredDtype) else block


def _masks(column: pd.Series, clean: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """``clean(column)``; what is on disk stays there, and only texts that differ are written anew."""
    if not isinstance(column.dtype, StoredDtype):
        return _by_blocks(column, clean)
    places, changed = [np.zeros(0, dtype=np.int64)], ColumnWriter()
    for number, block in enumerate(_blocks(column)):
        cleaned = clean(block)
        differ = ~((cleaned == block) | (cleaned.isna() & block.isna())).to_numpy(dtype=bool)
        places.append(number * BLOCK + np.flatnonzero(differ))
        changed.append(pa.array(cleaned[differ].array, pa.large_string()))
    if not sum(map(len, places)):
        return column
    masks = column.array.copy()
    masks[np.concatenate(places)] = changed.column()
    return pd.Series(masks, index=column.index)


def _as_path(texts: pd.Series) -> pd.Series:
    return texts.str.replace("\\", "/", regex=False)


def _as_mask(texts: pd.Series, mask_format: MaskFormat, nothing: list[str], starts: RleStarts) -> pd.Series:
    """Masks; "" if the table states that there is none, NA if it does not say."""
    texts = texts.mask(texts.isin(MISSING)) if mask_format == "rle" else texts
    masks = _as_path(texts) if mask_format != "rle" else texts
    masks = masks.map(absolute_runs, na_action="ignore") if starts == "relative" and mask_format == "rle" else masks
    return masks.mask(texts.fillna("").isin(nothing), "")


def absolute_runs(text: str) -> str:
    """Run lengths whose starts count from the first pixel, of those that count from the end of the run before."""
    try:
        runs = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        return text  # reading the mask reports it
    runs[::2] = runs.cumsum()[::2]
    return " ".join(map(str, runs.tolist()))
