"""Catalog entry for the manifests of several data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from seg_pipeline.datasets.described import Described

if TYPE_CHECKING:
    import pandas as pd


class ManifestsDataset(Described, AbstractDataset["NoReturn", dict[str, "pd.DataFrame"]]):
    """Manifests of other environments, by source name.

    ```yaml
    source_manifests:
      type: seg_pipeline.datasets.manifests.ManifestsDataset
      sources:
        clinic_a: data/clinic_a/05_model_input/manifest.parquet
        clinic_b: data/clinic_b/05_model_input/manifest.parquet
    ```
    """

    missing_ok = True
    """``load`` says which manifest is missing and how to create it."""

    def __init__(self, *, sources: dict[str, str], metadata: dict[str, Any] | None = None) -> None:
        self._sources = {name: Path(path) for name, path in sources.items()}
        self.metadata = metadata

    def load(self) -> dict[str, pd.DataFrame]:
        from seg_pipeline.segmentation.storage.stored_columns import read_table

        for name, path in self._sources.items():
            if not path.is_file():
                raise DatasetError(
                    f"source {name}: no manifest {path}; make it with `kedro run --env {name} --pipeline "
                    "data_processing`, or correct the path in the catalog's `source_manifests.sources`"
                )
        return {name: read_table(path) for name, path in self._sources.items()}

    def save(self, data: NoReturn) -> NoReturn:
        raise DatasetError(
            f"manifests of other data sets are read-only; cannot save data of type {type(data).__name__}"
        )

    def _exists(self) -> bool:
        return all(path.is_file() for path in self._sources.values())
