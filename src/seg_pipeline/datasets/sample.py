"""Catalog entry for raw data that may be the embedded sample, which is made when it is first asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from seg_pipeline.segmentation.phantom import write_example, write_phantom


class SampleDataset(AbstractDataset[NoReturn, Any]):
    """Makes a drawn phantom in the folder ``filepath``, then reads one of its files or folders. Read-only.

    ``phantom`` holds settings of ``write_phantom``, or with ``layout`` of ``write_example``; null: the folder holds
    data of its own, which is read as it is. ``dataset`` is any other entry, whose path lies in the folder;
    several entries may share a folder.

    ```yaml
    raw_metadata:
      type: seg_pipeline.datasets.sample.SampleDataset
      filepath: data/01_raw/phantom
      phantom: { seed: 17 }
      dataset:
        type: pandas.CSVDataset
        filepath: data/01_raw/phantom/train.csv
    ```

    Kedro puts the project's folder before every relative path of the catalog, that of ``dataset`` too, so it
    is written in full there; in Python it may also be relative to the sample's folder.
    """

    def __init__(
        self,
        *,
        filepath: str,
        phantom: dict[str, Any] | None,
        dataset: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._folder = Path(filepath)
        self._phantom = phantom
        inner = {**dataset, "filepath": _path_within(self._folder, dataset.get("filepath", ""))}
        self._dataset: AbstractDataset = AbstractDataset.from_config("sample", inner)
        self.metadata = metadata

    @property
    def _filepath(self) -> object:
        return getattr(self._dataset, "_filepath", None)  # for messages and Kedro-Viz: the file, not the folder

    def load(self) -> Any:
        self._make()
        return self._dataset.load()

    def save(self, data: NoReturn) -> NoReturn:
        raise DatasetError(f"{self._folder}: raw data is only read, and takes no {type(data).__name__}")

    def preview(self, nrows: int = 5) -> TablePreview:
        """The first rows, for Kedro-Viz."""
        self._make()
        return self._dataset.preview(nrows)  # type: ignore[attr-defined]

    def _make(self) -> None:
        if self._phantom is not None:
            make = write_example if "layout" in self._phantom else write_phantom
            make(self._folder, **self._phantom)

    def _exists(self) -> bool:
        return self._phantom is not None or self._dataset.exists()

    def _release(self) -> None:
        self._dataset.release()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._folder.as_posix(), "phantom": self._phantom, "dataset": self._dataset}


def _path_within(folder: Path, path: str) -> str:
    whole = folder / path
    if not whole.is_relative_to(folder):
        raise ValueError(
            f"`dataset` of the sample at {folder} has the filepath {path}, which is not in that folder; "
            f"in the catalog write it in full, as {folder / whole.name}"
        )
    return whole.as_posix()
