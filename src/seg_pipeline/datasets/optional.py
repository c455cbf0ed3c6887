"""Catalog entries for files that may be missing."""

from pathlib import PurePath
from typing import Any

from kedro.io import AbstractDataset


class OptionalDataset(AbstractDataset[Any, Any]):
    """Wraps a dataset so that it loads as None if its file does not exist."""

    missing_ok = True
    """A run may start without the file (hooks/inputs.py)."""

    def __init__(self, *, dataset: dict[str, Any] | AbstractDataset, metadata: dict[str, Any] | None = None) -> None:
        self._dataset = AbstractDataset.from_config("optional", dataset) if isinstance(dataset, dict) else dataset
        self.metadata = metadata
        if preview := getattr(self._dataset, "preview", None):
            self.preview = preview  # Kedro-Viz chooses the renderer by this method's annotation

    @property
    def _filepath(self) -> PurePath | None:
        return getattr(self._dataset, "_filepath", None)

    def load(self) -> Any:
        return self._dataset.load() if self._dataset.exists() else None

    def save(self, data: Any) -> None:
        self._dataset.save(data)

    def _exists(self) -> bool:
        return self._dataset.exists()

    def _release(self) -> None:
        self._dataset.release()

    def _describe(self) -> dict[str, Any]:
        filepath = {} if self._filepath is None else {"filepath": self._filepath.as_posix()}  # for Kedro-Viz
        return {"dataset": self._dataset, **filepath}


class ResultDataset(OptionalDataset):
    """An OptionalDataset that may be None only for nodes tagged ``accepts_missing_inputs``, such as the report's.

    If another node needs the missing file, the run does not start, and the error names the pipeline to run first
    (hooks/inputs.py).
    """

    missing_ok = False
