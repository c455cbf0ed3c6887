"""Catalog entries for COCO annotation files."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from seg_pipeline.datasets.described import FETCHED, check_choices, exists, path_or_address
from seg_pipeline.datasets.file_index import ReadOnlyTable
from seg_pipeline.segmentation.formats.coco import Crowd, InvalidAnnotations, Orientation, list_images, read_coco
from seg_pipeline.segmentation.formats.fetched import above, fetch_annotations, local_copy

Part = Literal["annotations", "splits"]


class CocoDataset(ReadOnlyTable):
    """Annotation table of COCO JSON files, with row-major run lengths; see ``read_coco``. Read-only.

    Args:
        filepath: the JSON file or, with ``splits``, the folder that all paths are relative to; may be an address.
        images: the image folder, relative to the JSON file's folder.
        splits: one JSON file per split, such as ``train: {file: annotations/train.json, images: train2017}``; an
            image_id then starts with the image's folder.
        part: "annotations", or "splits" (image_id, split) for the entry ``predefined_splits``.
        crowd: "apart" gives crowd regions the class "crowd", for ``ignore_values``; "with_class" keeps them as masks of
            their class.
        invalid_annotations: an annotation without a usable mask drops its image ("drop_image") or only itself
            ("drop_annotation").
        orientation: as `dataset.reading.orientation`: annotations refer to photos rotated by their EXIF orientation
            ("apply") or to photos as stored ("keep").
        fetched: folder for copies of remote JSON files and of the first bytes of remote images.
    """

    def __init__(
        self,
        *,
        filepath: str,
        images: str = ".",
        splits: dict[str, dict[str, str]] | None = None,
        part: Part = "annotations",
        crowd: Crowd = "with_class",
        invalid_annotations: InvalidAnnotations = "drop_image",
        orientation: Orientation = "apply",
        fetched: str = FETCHED,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        check_choices(
            ("crowd", crowd, Crowd),
            ("invalid_annotations", invalid_annotations, InvalidAnnotations),
            ("orientation", orientation, Orientation),
            ("part", part, Part),
        )
        if part == "splits" and not splits:
            raise ValueError("`part: splits` needs `splits`: the JSON file and the image folder of each split")
        self._filepath = path_or_address(filepath)
        self._fetched = Path(fetched)
        self._images = images
        self._splits = splits
        self._part = part
        self._settings: dict[str, Any] = {
            "crowd": crowd,
            "invalid_annotations": invalid_annotations,
            "orientation": orientation,
        }
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        if self._splits is None:
            path = fetch_annotations(self._filepath, self._fetched)
            images = fetch_annotations(above(self._filepath), self._fetched, self._images)
            return read_coco(path, images, **self._settings)
        root = self._filepath if isinstance(self._filepath, Path) else local_copy(self._filepath, self._fetched)
        fetch = partial(fetch_annotations, self._filepath, self._fetched)
        paths = {split: (fetch(files["file"]), fetch(files["images"])) for split, files in self._splits.items()}
        if self._part == "splits":
            rows = [(name, split) for split, pair in paths.items() for name in list_images(*pair, root=root)]
            return pd.DataFrame(rows, columns=["image_id", "split"], dtype="str")
        tables = [read_coco(*pair, root=root, **self._settings) for pair in paths.values()]
        return pd.concat(tables, ignore_index=True)

    def _exists(self) -> bool:
        return exists(self._filepath, file=self._splits is None)
