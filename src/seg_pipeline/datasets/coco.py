"""Catalog entry for a COCO annotation file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from seg_pipeline.datasets.file_index import ReadOnlyTable
from seg_pipeline.segmentation.formats.coco import Crowd, read_coco


class CocoDataset(ReadOnlyTable):
    """Annotation table of a COCO JSON file, with row-major run lengths; see ``read_coco``. Read-only.

    ``images`` is the folder of the file names, relative to the JSON file's folder. ``crowd: apart`` gives
    crowd regions the class "crowd", for ``ignore_values``; ``with_class`` makes each a mask of its class.
    """

    def __init__(
        self,
        *,
        filepath: str,
        images: str = ".",
        crowd: Crowd = "with_class",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if crowd not in ("with_class", "apart"):
            raise ValueError(f"`crowd` must be with_class or apart, found {crowd!r}")
        self._filepath = Path(filepath)
        self._images = self._filepath.parent / images
        self._crowd: Crowd = crowd
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        return read_coco(self._filepath, self._images, crowd=self._crowd)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath.as_posix(), "images": self._images.as_posix(), "crowd": self._crowd}
