"""Catalog entry for what is kept from run to run only to save time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset

log = logging.getLogger(__name__)


class KeptTableDataset(AbstractDataset[pd.DataFrame, pd.DataFrame | None]):
    """Parquet table that may be missing: loads as None then, and, with a warning, where it is damaged or of an older
    version, without one of ``columns``.

    It is replaced whole or not at all, and its pages carry checksums.
    """

    missing_ok = True

    def __init__(self, *, filepath: str, columns: list[str], metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self._columns = columns
        self.metadata = metadata

    def load(self) -> pd.DataFrame | None:
        if not self._filepath.exists():
            return None
        try:
            table = pd.read_parquet(self._filepath, engine="pyarrow", page_checksum_verification=True)
            self._check(table)
        except (OSError, ValueError) as error:  # pyarrow's own errors are of these
            log.warning("%s cannot be used, so that all is read anew: %s", self._filepath, error)
            return None
        return table

    def save(self, data: pd.DataFrame) -> None:
        self._check(data)
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        draft = self._filepath.with_name(self._filepath.name + ".tmp")
        try:
            data.to_parquet(draft, engine="pyarrow", index=False, write_page_checksum=True)
            draft.replace(self._filepath)
        finally:
            draft.unlink(missing_ok=True)

    def _check(self, table: pd.DataFrame) -> None:
        if missing := [name for name in self._columns if name not in table]:
            raise ValueError(f"it lacks the columns {missing}; it has {list(table)}")

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix(), "columns": self._columns}
