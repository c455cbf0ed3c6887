"""Catalog entry for a table of the files in a folder."""

from __future__ import annotations  # Kedro-Viz picks the renderer by the name of the annotated type

from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from seg_pipeline.datasets.described import Described
from seg_pipeline.segmentation.images.remote import exists_remote, is_remote
from seg_pipeline.segmentation.manifest.files import index_files


class ReadOnlyTable(Described, AbstractDataset[NoReturn, pd.DataFrame]):
    """A table that is never saved. Kedro-Viz shows its first rows."""

    _filepath: Path | str

    def save(self, data: NoReturn) -> NoReturn:
        raise DatasetError(f"{self._filepath}: raw data is read-only; cannot save data of type {type(data).__name__}")

    def preview(self, nrows: int = 5) -> TablePreview:
        """The first rows as plain values; missing values as null."""
        rows = self.load().head(nrows).astype(object)
        return TablePreview(rows.where(rows.notna(), None).to_dict(orient="split"))


class FileIndexDataset(ReadOnlyTable):
    """Table of the files in a folder, with columns from their names; see ``index_files``. Read-only.

    ``inventory`` is a table to read instead of listing the folder, see ``images.inventory``. ``pattern: null`` is for
    data without such files: the table is empty, and the folder need not exist.
    """

    def __init__(
        self,
        *,
        filepath: str,
        glob: str = "**/*",
        pattern: str | None = None,
        columns: dict[str, str] | None = None,
        pages: bool = False,
        inventory: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath: Any = filepath if is_remote(filepath) else Path(filepath)
        self._pattern = pattern
        self._options: dict[str, Any] = {"glob": glob, "columns": columns, "pages": pages, "inventory": inventory}
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        if self._pattern is None:
            return pd.DataFrame({"path": [], "file": []}, dtype="str")
        return index_files(self._filepath, pattern=self._pattern, **self._options)

    def _exists(self) -> bool:
        if self._pattern is None or isinstance(self._filepath, str):
            return self._pattern is None or exists_remote(self._filepath)
        return self._filepath.is_dir()
