"""Catalog entry for a folder that a node writes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset


class FolderDataset(AbstractDataset[NoReturn, Path]):
    """Loads as the path of the folder, which is created if necessary."""

    missing_ok = True

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        self._filepath.mkdir(parents=True, exist_ok=True)
        return self._filepath

    def save(self, data: NoReturn) -> None:  # noqa: ARG002 -- Kedro's signature
        raise ValueError(
            f"{self._filepath}: a folder is written to by the node that has it as an input; it cannot be an output"
        )

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix()}
