"""Catalog entry for a data set in nnU-Net's raw layout, written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview

from seg_pipeline.segmentation.formats.nnunet import write_raw


class NnunetRawDataset(AbstractDataset[dict[str, Any], dict[str, Any]]):
    """Saves what ``plan_raw`` planned, images and label maps included; loads its ``dataset.json``."""

    def __init__(self, *, filepath: str, num_workers: int = 1, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self._num_workers = num_workers
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        return json.loads((self._filepath / "dataset.json").read_text())

    def save(self, data: dict[str, Any]) -> None:
        write_raw(self._filepath, data, num_workers=self._num_workers)

    def preview(self) -> JSONPreview:
        """For Kedro-Viz."""
        return JSONPreview(json.dumps(self.load()))

    def _exists(self) -> bool:
        return (self._filepath / "dataset.json").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix()}
