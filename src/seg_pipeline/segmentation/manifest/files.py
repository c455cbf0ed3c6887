"""Index of the files in a folder, with the information in their names."""

import re
import string
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from seg_pipeline.segmentation.images.addresses import format_address
from seg_pipeline.segmentation.images.inventory import list_inventory
from seg_pipeline.segmentation.images.listing import as_text, composed, list_raw_files, with_pages
from seg_pipeline.segmentation.images.remote import is_remote, lower_ending
from seg_pipeline.segmentation.settings.reading import ReadSettings
from seg_pipeline.segmentation.storage.stored_columns import concat_stored, is_large

INTEGER_COLUMNS = ("frame", "width", "height")
FLOAT_COLUMNS = ("spacing_x", "spacing_y")
BLOCK = 8192
"""Files whose names are parsed at once: as Python objects they take five times the memory of a table."""


NOT_TEXT = "its name is not valid UTF-8, perhaps Latin-1; rename the file"


def index_files(
    folder: str | Path,
    *,
    glob: str,
    pattern: str,
    columns: dict[str, str] | None = None,
    pages: bool = False,
    inventory: str | None = None,
) -> pd.DataFrame:
    """Table with one row per file below ``folder`` that matches ``glob``, sorted by name.

    ``folder`` may be an address such as s3://bucket/scans. With ``inventory``, see ``list_inventory``, it is not
    listed, and a column ``inventory_stamp`` says which version of each file the inventory knows.
    Columns: ``path`` (absolute), ``file`` (relative to ``folder``; both with forward slashes), the named
    groups of the regular expression ``pattern``, which must match the whole of ``file`` in Unicode's form NFC, without
    outer blanks, and ``columns``: format strings over those groups, such as
    ``{"image_id": "{series}_slice_{frame}"}``. ``frame``, ``width`` and ``height`` are Int64, ``spacing_x`` and
    ``spacing_y`` float64, all others str.
    A file that does not match the pattern keeps its row, with missing values for the pattern's columns; an ending in
    upper case also matches as if it were in lower case. If a name is not text, a column ``problem`` says so. With
    ``pages``, each page of a TIFF of several has a row, and its number follows its name: "scan.tif?page=3".
    As in a shell, hidden files are skipped and linked folders are followed.
    """
    folder = str(folder).rstrip("/") if is_remote(folder) else Path(folder).absolute().as_posix()
    templates = columns or {}
    regex = _compiled(pattern, templates)
    stamps = None if inventory is None else list_inventory(inventory, folder, glob)
    files = list_raw_files(folder, glob) if stamps is None else list(stamps.index)
    if pages:
        files = with_pages(folder, files)
    if not any(_match(regex, file) for file in files):
        raise ValueError(
            f"{folder}: the pattern {pattern!r} matches none of its {len(files)} files, such as "
            f"{', '.join(map(as_text, files[:3]))}; it must match the whole path below the folder"
        )
    starts = range(0, len(files), BLOCK)
    blocks = (_index_block(folder, files[start : start + BLOCK], regex, templates) for start in starts)
    table = concat_stored(blocks, ("path", "file")) if is_large(files) else pd.concat(blocks)
    table.index = pd.RangeIndex(len(files))
    if stamps is None:
        return table
    return table.assign(inventory_stamp=stamps.reindex([file.partition("?page=")[0] for file in files]).to_numpy())


def _index_block(root: str, files: list[str], regex: re.Pattern[str], templates: dict[str, str]) -> pd.DataFrame:
    said = [match.groupdict() if (match := _match(regex, file)) else {} for file in files]
    names = [as_text(file) for file in files]
    table: dict[str, object] = {
        "path": pd.Series([f"{root}/{file}" for file in names], dtype="str"),
        "file": pd.Series(names, dtype="str"),
    }
    for group in regex.groupindex:
        table[group] = _typed(group, [one.get(group) for one in said], files)
    for column, template in templates.items():
        table[column] = _typed(column, _formatted(column, template, said), files)
    odd = [NOT_TEXT if name != file else None for name, file in zip(names, files, strict=True)]
    return pd.DataFrame(table | ({"problem": pd.Series(odd, dtype="str")} if any(odd) else {}))


def _match(regex: re.Pattern[str], file: str) -> re.Match[str] | None:
    if as_text(file) != file:
        return None
    file = composed(file)
    return regex.fullmatch(file) or regex.fullmatch(lower_ending(file))


def with_reading(images: pd.DataFrame, settings: ReadSettings, *, mask_files: bool) -> pd.DataFrame:
    """Rows whose paths, and lists of mask files, are addresses that are read with ``settings``."""
    if settings == ReadSettings():
        return images
    paths: dict[str, list] = {"path": [format_address(path, settings) for path in images["path"]]}
    of_masks = ReadSettings(orientation=settings.orientation, max_pixels=settings.max_pixels)
    for name in [name for name in map(str, images) if mask_files and name.startswith("mask_")]:
        paths[name] = [[format_address(path, of_masks) for path in masks] for masks in images[name]]
    return images.assign(**paths)


def _compiled(pattern: str, columns: dict[str, str]) -> re.Pattern[str]:
    """The compiled pattern, after a check that ``columns`` use only its groups."""
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the file name pattern {pattern!r} is not a valid regular expression: {error}") from None
    if taken := sorted({"path", "file"} & {*regex.groupindex, *columns}):
        raise ValueError(f"a file index already has the columns {taken}; rename these groups of the pattern")
    for column, template in columns.items():
        if unknown := [name for name in _fields(column, template) if name not in regex.groupindex]:
            raise ValueError(
                f"column {column!r} is made from {template!r}, but the pattern has no group {unknown[0]!r}; "
                f"its groups are {list(regex.groupindex)}"
            )
    return regex


def _fields(column: str, template: str) -> list[str]:
    """Names of the fields of a format string, in order."""
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ValueError(f"column {column!r}: {template!r} is not a valid format string: {error}") from None


def _formatted(column: str, template: str, said: list[dict[str, str | None]]) -> list[str | None]:
    """One text per file; None if a group of the template did not take part in the match."""
    fields = _fields(column, template)
    return [None if any(one.get(name) is None for name in fields) else template.format_map(one) for one in said]


def _typed(column: str, values: list[str | None], files: Sequence[str]) -> pd.Series:
    if column not in (*INTEGER_COLUMNS, *FLOAT_COLUMNS):
        return pd.Series([one and one.strip() for one in values], dtype="str")  # as a table's values are
    convert = int if column in INTEGER_COLUMNS else float
    numbers = [_number(convert, column, value, file) for value, file in zip(values, files, strict=True)]
    return pd.Series(numbers, dtype="Int64" if convert is int else "float64")


def _number(convert: type[int | float], column: str, value: str | None, file: str) -> int | float | None:
    try:
        return None if value is None else convert(value)
    except ValueError:
        kind = "a whole number" if convert is int else "a number"
        raise ValueError(f"{file}: its name gives {column} = {value!r}, expected {kind}; see the pattern") from None
