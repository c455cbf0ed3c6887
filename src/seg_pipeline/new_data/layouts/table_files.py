"""Read a table of any kind of file as text, with the catalog entry that reads it the same way."""

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from seg_pipeline.new_data.plan import RAW, Entry
from seg_pipeline.new_data.scanning import Contents
from seg_pipeline.segmentation.manifest.table_forms import as_text

AS_TEXT: Entry = {"dtype": "str", "keep_default_na": False, "na_values": [""]}
"""Ids such as 007, and classes such as NA, stay as they are."""


class Table(NamedTuple):
    file: str
    rows: pd.DataFrame
    """All values as text; NA if empty."""
    entry: Entry

    @property
    def columns(self) -> list[str]:
        return list(map(str, self.rows))


def read_tables(contents: Contents) -> tuple[list[Table], list[str]]:
    """All tables of the folder, the shortest last, and why others cannot be read."""
    found, faults = [], []
    for file in contents.tables:
        try:
            kind, arguments = _kind(contents.root / file)
            rows = _read(contents.root / file, arguments)
        except (ValueError, OSError, ImportError, csv.Error) as error:
            faults.append(f"{file}: cannot be read as a table: {str(error).splitlines()[0]}")
            continue
        entry = {"type": kind, "filepath": f"{RAW}/{file}", **({"load_args": arguments} if arguments else {})}
        found.append(Table(file, rows, entry))
    return sorted(found, key=lambda one: -len(one.rows)), faults


def _kind(path: Path) -> tuple[str, dict[str, Any]]:
    """Catalog type of the file and the arguments of pandas' reader."""
    ending = path.suffix.lower()
    if ending == ".parquet":
        return "pandas.ParquetDataset", {}
    if ending == ".xlsx":
        return "pandas.ExcelDataset", AS_TEXT
    if ending == ".jsonl":
        return "pandas.JSONDataset", {"lines": True, "dtype": False}
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        encoding, text = "cp1252", data.decode("cp1252", errors="replace")
    head = io.StringIO(text).readline()
    separator = max(",;\t|", key=head.count)
    extra: dict[str, Any] = {"sep": separator} if separator != "," else {}
    extra |= {"skip_blank_lines": False}  # findings name lines as an editor counts them
    return "pandas.CSVDataset", {**AS_TEXT, **extra, **({"encoding": encoding} if encoding != "utf-8" else {})}


def _refuse_index(path: Path, index: pd.Index) -> None:
    """Raise ValueError if the ids, or other values, became the index of the table, which Kedro passes over."""
    if all(name is None for name in index.names) and pd.api.types.is_integer_dtype(index.dtype):
        return
    if path.suffix.lower() != ".parquet":
        raise ValueError("its lines have more values than its first line has names; correct its first line")
    named = ", ".join(str(name) for name in index.names if name is not None) or f"{index[0]}, ..."
    raise ValueError(f"its index ({named}) is no column; save it again after `table = table.reset_index()`")


def _read(path: Path, arguments: dict[str, Any]) -> pd.DataFrame:
    if path.suffix.lower() == ".xlsx":
        try:
            table = pd.read_excel(path, **arguments)
        except ImportError:
            raise ValueError("Excel needs openpyxl; install it with `pip install 'seg_pipeline[excel]'`") from None
    else:
        readers = {".parquet": pd.read_parquet, ".jsonl": pd.read_json}
        table = readers.get(path.suffix.lower(), pd.read_csv)(path, **arguments)  # type: ignore[operator]
        _refuse_index(path, table.index)
    return pd.DataFrame({str(name): as_text(table[name]) for name in table})
