"""Catalog entry for a figure that a run draws again and again."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from seg_pipeline.datasets.figure import FigureDataset


class LiveFigureDataset(FigureDataset):
    """As FigureDataset; the very figure that was saved last is not saved again.

    A generator node must give all its outputs at each yield. Drawing and saving takes half a second, so the
    node gives the same figure again until it is worth a new one.
    """

    _saved: Any = None

    def save(self, data: Figure | tuple[()]) -> None:
        if data is not self._saved:
            super().save(data)
            self._saved = data
