"""Kedro's data sets, saved whole or not at all: a full disk or a killed run leaves the old file as it was."""

import itertools
from pathlib import Path, PurePath
from typing import Any

from kedro_datasets import json, pandas, text

from seg_pipeline.segmentation.storage.atomic import replacing


class Atomic:
    """Mixin for a data set of a local file; what is on another file system is saved as the data set does it."""

    _temporary: PurePath | None = None
    _protocol: str

    def save(self, data: Any) -> None:
        if self._protocol != "file":
            super().save(data)  # type: ignore[misc]
            return
        with replacing(Path(self._get_save_path())) as temporary:
            self._temporary = temporary
            try:
                super().save(data)  # type: ignore[misc]
            finally:
                self._temporary = None

    def _get_save_path(self) -> PurePath:
        return self._temporary or super()._get_save_path()  # type: ignore[misc]


_UTF_8 = {  # Kedro takes the encoding of the locale
    "open_args_save": {"mode": "w", "encoding": "utf-8"},
    "open_args_load": {"mode": "r", "encoding": "utf-8"},
}


class ParquetDataset(Atomic, pandas.ParquetDataset):
    """Of which the masks and long texts of a large table stay on disk, see ``stored_columns``."""

    def load(self) -> Any:
        if self._protocol != "file" or self._load_args:
            return super().load()
        from seg_pipeline.segmentation.storage.stored_columns import read_table

        return read_table(Path(self._get_load_path()))

    def save(self, data: Any) -> None:
        if self._protocol != "file" or self._save_args:
            super().save(data)
            return
        from seg_pipeline.segmentation.storage.stored_columns import write_table

        with replacing(Path(self._get_save_path())) as path:
            write_table(data, path)
        self._invalidate_cache()


BLOCK = 65_536
"""Rows that are read at once."""
WHOLE = {"index_col", "skipfooter"}
"""Arguments of ``pandas.read_csv`` that blocks of rows do not go with."""


class CSVDataset(Atomic, pandas.CSVDataset):
    """In which a spreadsheet runs nothing, see ``without_formulas``. Text of many rows stays on disk."""

    _load_args: dict[str, Any]

    def load(self) -> Any:
        as_text = self._load_args.get("dtype") == "str"  # else the type of a column depends on later rows
        if not as_text or self._load_args.keys() & WHOLE:
            return super().load()
        self._load_args = {**self._load_args, "chunksize": BLOCK}
        with super().load() as blocks:
            first = next(blocks)
            if len(first) < BLOCK:
                return first
            from seg_pipeline.segmentation.storage.stored_columns import concat_stored

            return concat_stored(itertools.chain([first], blocks))

    def save(self, data: Any) -> None:
        from seg_pipeline.segmentation.inference.outputs import without_formulas

        super().save(without_formulas(data))


class JSONDataset(Atomic, json.JSONDataset):
    DEFAULT_FS_ARGS = _UTF_8


class TextDataset(Atomic, text.TextDataset):
    DEFAULT_FS_ARGS = _UTF_8
