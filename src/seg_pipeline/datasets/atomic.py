"""Kedro's data sets, saved whole or not at all: a full disk or a killed run leaves the old file as it was."""

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


class ParquetDataset(Atomic, pandas.ParquetDataset):
    pass


class JSONDataset(Atomic, json.JSONDataset):
    pass


class TextDataset(Atomic, text.TextDataset):
    pass
