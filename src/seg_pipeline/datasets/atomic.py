"""Kedro's datasets with atomic saves: a full disk or a killed run leaves the old file unchanged."""

import itertools
from pathlib import Path, PurePath
from typing import Any

from kedro_datasets import json, pandas, text

from seg_pipeline.segmentation.storage.atomic import replacing


class Atomic:
    """Mixin that saves local files atomically; files on other file systems are saved as the dataset does it."""

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


_UTF_8 = {  # Kedro uses the encoding of the locale
    "open_args_save": {"mode": "w", "encoding": "utf-8"},
    "open_args_load": {"mode": "r", "encoding": "utf-8"},
}


class ParquetDataset(Atomic, pandas.ParquetDataset):
    """A parquet table; the masks and long texts of a large one stay on disk, see ``stored_columns``."""

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
NOT_IN_CHUNKS = {"index_col", "skipfooter"}
"""Arguments of ``pandas.read_csv`` that do not work with blocks of rows."""


class CSVDataset(Atomic, pandas.CSVDataset):
    """A CSV table without spreadsheet formulas (``without_formulas``); text of many rows stays on disk."""

    _load_args: dict[str, Any]

    def load(self) -> Any:
        as_text = self._load_args.get("dtype") == "str"  # else the type of a column may depend on later rows
        if not as_text or self._load_args.keys() & NOT_IN_CHUNKS:
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
