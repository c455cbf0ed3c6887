"""Catalog entry for a folder that a node fills with images."""

from __future__ import annotations

import base64
import io

from kedro_datasets._typing import ImagePreview

from seg_pipeline.datasets.folder import FolderDataset

TILE = 240
"""Pixels of a side."""
GAP = 6


class ImageFolderDataset(FolderDataset):
    """As FolderDataset, and Kedro-Viz shows some of the images.

    ```yaml
    inference_folder:
      type: seg_pipeline.datasets.image_folder.ImageFolderDataset
      filepath: data/07_model_output/inference
      metadata: { kedro-viz: { preview_args: { glob: "overlays/**/*.png" } } }
    ```
    """

    def preview(self, glob: str = "**/*.png", columns: int = 3, rows: int = 3) -> ImagePreview:
        """A sheet of images from all over the folder, in the order of their names; empty where there are none."""
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
        coded = io.BytesIO()
        sheet.save(coded, "PNG")
        return ImagePreview(base64.b64encode(coded.getvalue()).decode("ascii"))
