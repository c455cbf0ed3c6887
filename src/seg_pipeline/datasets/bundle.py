"""Catalog entry for an exported model: a folder that is replaced as a whole."""

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview

from seg_pipeline.datasets.described import Described
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.storage.atomic import replace_folder


class BundleDataset(Described, AbstractDataset[Bundle, Bundle | None]):
    """Saves a bundle by moving its folder to ``filepath``; loads its description, whose ``folder`` is that path.

    With ``missing_ok`` it loads as None if there is no bundle.
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
        replace_folder(data.folder, self._filepath)

    def preview(self) -> JSONPreview:
        """The bundle's description, for Kedro-Viz."""
        return JSONPreview(json.dumps(Bundle.read(self._filepath).to_dict()))

    def _exists(self) -> bool:
        return (self._filepath / "bundle.json").is_file()
