"""Inventories: tables of a store's files that were made beforehand, such as Amazon S3 Inventory writes every day.

To list fifty million objects takes half a day, and to ask for the size and etag of each as long again.
"""

import json
from pathlib import PurePosixPath
from urllib.parse import unquote_plus

import pandas as pd

from seg_pipeline.segmentation.images.remote import matching, open_file

NAMES = {
    "path": "path",
    "bucket": "bucket",
    "key": "key",
    "size": "size",
    "etag": "etag",
    "mtime": "mtime",
    "lastmodified": "mtime",
    "lastmodifieddate": "mtime",
    "islatest": "is_latest",
    "isdeletemarker": "is_deleted",
}
"""The columns that are read, in lower case and without underscores."""


def list_inventory(inventory: str, folder: str, glob: str) -> pd.Series:
    """Stamps (str; size, and etag or time of change) of the files below ``folder`` that match ``glob``.

    Args:
        inventory: a CSV file with a header, a Parquet file, or the ``manifest.json`` of an S3 Inventory. Columns:
            ``path``, whole or below ``folder``, or ``bucket`` and ``key``; ``size``; ``etag`` or ``mtime``
            (``last_modified_date``). Old versions and delete markers are skipped.

    Returns:
        Sorted by its index, the paths relative to ``folder``. The stamp is missing where the table has none.

    Raises:
        ValueError: the inventory cannot be read, lacks a column, or names no such file.
    """
    table = _read(inventory)
    if not ({"path"} <= set(table) or {"bucket", "key"} <= set(table)) or not (
        "size" in table and {"etag", "mtime"} & set(table)
    ):
        raise ValueError(
            f"{inventory}: an inventory needs the columns path (or bucket and key), size, and etag or mtime; it has "
            f"{', '.join(map(str, table)) or 'none of them'}"
        )
    for name, value in (("is_latest", "false"), ("is_deleted", "true")):
        if name in table:
            table = table[table[name].str.lower() != value]
    paths = table["path"] if "path" in table else "s3://" + table["bucket"] + "/" + table["key"].map(unquote_plus)
    paths = paths.str.removeprefix(f"{folder}/")
    changed = table["etag" if "etag" in table else "mtime"]
    changed = changed.fillna(table["mtime"]) if "mtime" in table else changed
    stamps = pd.Series((table["size"] + " " + changed).to_numpy(), index=paths.to_numpy(), dtype="str")
    files = matching([path for path in stamps.index.dropna() if "://" not in path and not path.startswith("/")], glob)
    if not files:
        raise ValueError(
            f"{inventory}: none of its {len(table):,} files is below {folder} and matches the glob {glob!r}"
            + (f"; the first is {paths.iloc[0]}" if len(paths) else "")
        )
    return stamps[~stamps.index.duplicated()].reindex(files)


def _read(inventory: str) -> pd.DataFrame:
    """The known columns as text."""
    try:
        if not inventory.endswith("manifest.json"):
            return _known(_read_table(inventory))
        with open_file(inventory) as opened:
            about = json.load(opened)
        names = [name.strip() for name in about["fileSchema"].split(",")] if about["fileFormat"] == "CSV" else None
        data = PurePosixPath(inventory).parent.parent / "data"  # as S3 lays them out, also in a copy
        parts = [f"{data}/{PurePosixPath(one['key']).name}".replace(":/", "://", 1) for one in about["files"]]
        return pd.concat([_known(_read_table(part, names)) for part in parts], ignore_index=True)
    except (OSError, ValueError, KeyError, TypeError, pd.errors.ParserError) as error:
        raise ValueError(
            f"{inventory}: cannot be read as an inventory ({type(error).__name__}: {error}); expected a CSV or Parquet "
            "file, or the manifest.json of an S3 Inventory in CSV or Parquet"
        ) from error


def _read_table(file: str, names: list[str] | None = None) -> pd.DataFrame:
    with open_file(file) as opened:
        if file.endswith(".parquet"):
            return pd.read_parquet(opened, dtype_backend="numpy_nullable")  # else sizes become floats
        return pd.read_csv(opened, names=names, dtype="str", compression="gzip" if file.endswith(".gz") else None)


def _known(table: pd.DataFrame) -> pd.DataFrame:
    known = {name: NAMES.get(str(name).lower().replace("_", "").replace(" ", "")) for name in table}
    return pd.DataFrame({new: table[name].astype("str") for name, new in known.items() if new})
