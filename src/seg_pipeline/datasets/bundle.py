"""Catalog entry for an exported model: a folder that is replaced as a whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview

from seg_pipeline.segmentation.prediction.bundle import Bundle


class BundleDataset(AbstractDataset[Bundle, Bundle | None]):
    """Saves a bundle by moving its folder here; loads its description, whose ``folder`` is the place.

    ``missing_ok``: loads as None where there is no bundle.
    """

    def __init__(self, *, filepath: str, missing_ok: bool = False, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.missing_ok = missing_ok
        self.metadata = metadata

    def load(self) -> Bundle | None:
        if self.missing_ok and not self._exists():
            return None
        return Bundle.read(self._filepath)

    def save(self, data: Bundle) -> None:
        data.write()
        before = self._filepath.with_name(f"{self._filepath.name}.before")
        shutil.rmtree(before, ignore_errors=True)
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        if self._filepath.exists():
            self._filepath.rename(before)
        data.folder.rename(self._filepath)
        shutil.rmtree(before, ignore_errors=True)

    def preview(self) -> JSONPreview:
        """For Kedro-Viz: its description."""
        return JSONPreview(json.dumps(Bundle.read(self._filepath).to_dict()))

    def _exists(self) -> bool:
        return (self._filepath / "bundle.json").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix(), "missing_ok": self.missing_ok}
