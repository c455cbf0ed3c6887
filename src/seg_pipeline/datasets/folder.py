"""Catalog entries for folders that a node writes to."""

import base64
import io
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset
from kedro_datasets._typing import ImagePreview

from seg_pipeline.datasets.described import Described

TILE = 240
"""Side of a preview image in pixels."""
GAP = 6


class FolderDataset(Described, AbstractDataset[NoReturn, Path]):
    """Loads as the folder's path; the folder is created if necessary."""

    missing_ok = True

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        self._filepath.mkdir(parents=True, exist_ok=True)
        return self._filepath

    def save(self, data: NoReturn) -> None:  # noqa: ARG002
        raise ValueError(
            f"{self._filepath}: a folder cannot be an output; the node that takes it as an input writes to it"
        )

    def _exists(self) -> bool:
        return self._filepath.is_dir()


class ImageFolderDataset(FolderDataset):
    """A folder of images; Kedro-Viz shows some of them."""

    def preview(self, glob: str = "**/*.png", columns: int = 3, rows: int = 3) -> ImagePreview:
        """A sheet of images sampled evenly from the folder, sorted by name; empty if there are none."""
        from PIL import Image, ImageOps

        files = sorted(self._filepath.glob(glob))
        shown = files[:: max(1, len(files) // (columns * rows))][: columns * rows]
        if not shown:
            return ImagePreview("")
        step = TILE + GAP
        sheet = Image.new("RGB", (columns * step + GAP, -(-len(shown) // columns) * step + GAP), "white")
        for number, file in enumerate(shown):
            with Image.open(file) as image:
                tile = ImageOps.contain(image.convert("RGB"), (TILE, TILE))
            sheet.paste(tile, (number % columns * step + GAP, number // columns * step + GAP))
        png = io.BytesIO()
        sheet.save(png, "PNG")
        return ImagePreview(base64.b64encode(png.getvalue()).decode("ascii"))
