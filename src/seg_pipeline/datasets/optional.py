"""Catalog entry for what need not be there."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from kedro.io import AbstractDataset


class OptionalDataset(AbstractDataset[Any, Any]):
    """Any other dataset, which loads as None where its file does not exist.

    With ``missing_ok: false`` that is for nodes with the tag ``takes_what_is_there`` alone: a run in which any
    other node needs the file is stopped before it starts (hooks/inputs.py).

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
        if isinstance(dataset, dict):
            dataset = AbstractDataset.from_config("optional", dataset)
        self._dataset = dataset
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
        self._dataset.save(data)

    def _exists(self) -> bool:
        return self._dataset.exists()

    def _release(self) -> None:
        self._dataset.release()

    def _describe(self) -> dict[str, Any]:
        place = {} if self._filepath is None else {"filepath": self._filepath.as_posix()}  # for Kedro-Viz
        return {"dataset": self._dataset, **place}
