"""Catalog entry for a figure that a report shows again, and that may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kedro_datasets.matplotlib import MatplotlibDataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FigureDataset(MatplotlibDataset):
    """As MatplotlibDataset; loads as the PNG's bytes, or as None where there is none.

    A node gives ``()`` where there is nothing to draw: an older picture under this name is removed.
    """

    missing_ok = True

    def load(self) -> bytes | None:
        file = Path(self._get_load_path())
        return file.read_bytes() if file.exists() else None

    def save(self, data: Figure | tuple[()]) -> None:
        if data == ():
            Path(self._get_save_path()).unlink(missing_ok=True)
        else:
            super().save(data)
