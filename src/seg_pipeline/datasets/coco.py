"""Catalog entries for COCO annotation files."""

from typing import Any, Literal

import pandas as pd

from seg_pipeline.datasets.described import check_choices, local_path
from seg_pipeline.datasets.file_index import ReadOnlyTable
from seg_pipeline.segmentation.formats.coco import Crowd, InvalidAnnotations, Orientation, list_images, read_coco

Part = Literal["annotations", "splits"]


class CocoDataset(ReadOnlyTable):
    """Annotation table of COCO JSON files, with row-major run lengths; see ``read_coco``. Read-only.

    Args:
        filepath: the JSON file or, with ``splits``, the folder that all paths are relative to.
        images: the folder of the file names, relative to the JSON file's folder.
        splits: a JSON file per split, such as ``train: {file: annotations/train.json, images: train2017}``; an
            image_id then starts with the folder of its image.
        part: "annotations", or "splits" (image_id, split) for the entry ``predefined_splits``.
        crowd: "apart" gives crowd regions the class "crowd", for ``ignore_values``; "with_class" makes each a mask of
            its class.
        invalid_annotations: an annotation without a usable mask takes its image along ("drop_image") or is left out
            alone ("drop_annotation").
        orientation: as `dataset.reading.orientation`: annotations are drawn on photos as their EXIF orientation turns
            them ("apply") or as they are stored ("keep").
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
        self._filepath = local_path(filepath, "COCO files")
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
            return read_coco(self._filepath, self._filepath.parent / self._images, **self._settings)
        root = self._filepath
        places = {split: (root / one["file"], root / one["images"]) for split, one in self._splits.items()}
        if self._part == "splits":
            rows = [(name, split) for split, place in places.items() for name in list_images(*place, root=root)]
            return pd.DataFrame(rows, columns=["image_id", "split"], dtype="str")
        tables = [read_coco(*place, root=root, **self._settings) for place in places.values()]
        return pd.concat(tables, ignore_index=True)

    def _exists(self) -> bool:
        return self._filepath.is_file() if self._splits is None else self._filepath.is_dir()
