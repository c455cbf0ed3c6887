"""Catalog entry for a file that may be missing."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from kedro.io import AbstractDataset

from seg_pipeline.segmentation.storage.atomic import replacing


class OptionalDataset(AbstractDataset[Any, Any]):
    """Another dataset that loads as None if its file does not exist, and is saved atomically.

    With ``missing_ok: false``, None is for nodes tagged ``takes_what_is_there`` only: a run in which another node
    needs the file stops before it starts (hooks/inputs.py).

    ```yaml
    best_params:
      type: seg_pipeline.datasets.optional.OptionalDataset
      dataset:
        type: json.JSONDataset
        filepath: data/06_models/best_params.json
    ```
    """

    def __init__(
        self,
        *,
        dataset: dict[str, Any] | AbstractDataset,
        missing_ok: bool = True,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._config = dataset if isinstance(dataset, dict) else None
        self._dataset = dataset if isinstance(dataset, AbstractDataset) else self._at(dataset["filepath"])
        self.missing_ok = missing_ok
        self.metadata = metadata
        if preview := getattr(self._dataset, "preview", None):
            self.preview = preview  # Kedro-Viz chooses the renderer by this method's annotation

    @property
    def _filepath(self) -> PurePath | None:
        return getattr(self._dataset, "_filepath", None)

    def load(self) -> Any:
        return self._dataset.load() if self._dataset.exists() else None

    def save(self, data: Any) -> None:
        """Whole or not at all: the file is written beside its place and renamed."""
        if self._config is None or self._filepath is None:
            self._dataset.save(data)
            return
        with replacing(Path(self._filepath)) as temporary:
            self._at(temporary.as_posix()).save(data)

    def _at(self, filepath: str) -> AbstractDataset:
        return AbstractDataset.from_config("optional", {**(self._config or {}), "filepath": filepath})

    def _exists(self) -> bool:
        return self._dataset.exists()

    def _release(self) -> None:
        self._dataset.release()

    def _describe(self) -> dict[str, Any]:
        place = {} if self._filepath is None else {"filepath": self._filepath.as_posix()}  # for Kedro-Viz
        return {"dataset": self._dataset, **place}
