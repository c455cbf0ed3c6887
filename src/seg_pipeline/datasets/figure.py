"""Catalog entries for figures that reports embed, and that may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro_datasets.matplotlib import MatplotlibDataset

from seg_pipeline.datasets.atomic import Atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FigureDataset(Atomic, MatplotlibDataset):
    """Like MatplotlibDataset, but loads the bytes of the PNG, or None if there is no file.

    A node returns ``()`` if there is nothing to draw; an older figure of this name is then deleted.
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


class LiveFigureDataset(FigureDataset):
    """A FigureDataset that does not save the same figure twice in a row.

    A generator node must return all its outputs at each yield. Drawing and saving take half a second, so the node
    returns the same figure until a new one is due.
    """

    _saved: Any = None

    def save(self, data: Figure | tuple[()]) -> None:
        if data is not self._saved:
            super().save(data)
            self._saved = data
