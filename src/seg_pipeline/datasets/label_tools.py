"""Catalog entry for annotations of label tools."""

from pathlib import Path
from typing import Any

import pandas as pd

from seg_pipeline.datasets.described import FETCHED, check_choices, exists, path_or_address
from seg_pipeline.datasets.file_index import ReadOnlyTable
from seg_pipeline.segmentation.formats.coco import InvalidAnnotations, Orientation
from seg_pipeline.segmentation.formats.fetched import above, fetch_annotations
from seg_pipeline.segmentation.formats.label_tools import (
    Annotators,
    EmptyImages,
    ReadRules,
    ReadTool,
    read_annotations,
)


class LabelToolDataset(ReadOnlyTable):
    """Annotation table of a label tool's export, with row-major run lengths; see ``read_annotations``. Read-only.

    Args:
        filepath: the file (CVAT: XML; Label Studio and VIA: JSON) or the folder of files (labelme, Supervisely, YOLO);
            may be an address.
        tool: cvat, label_studio, labelme, via, supervisely or yolo.
        images: the image folder, relative to ``filepath`` or, if that is a file, to its folder.
        annotators: what to do if several people annotated an image: "refuse", "latest", or "vote" (pixels that more
            than half of them marked).
        empty_images: an image without shapes contains no class ("negative") or is left out ("leave_out"); "auto":
            negative if the tool records that someone saved it.
        invalid_annotations, orientation, fetched: as in ``CocoDataset``.
    """

    def __init__(
        self,
        *,
        filepath: str,
        tool: ReadTool,
        images: str = ".",
        annotators: Annotators = "refuse",
        empty_images: EmptyImages = "auto",
        invalid_annotations: InvalidAnnotations = "drop_image",
        orientation: Orientation = "apply",
        fetched: str = FETCHED,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        check_choices(
            ("tool", tool, ReadTool),
            ("annotators", annotators, Annotators),
            ("empty_images", empty_images, EmptyImages),
            ("invalid_annotations", invalid_annotations, InvalidAnnotations),
            ("orientation", orientation, Orientation),
        )
        self._filepath = path_or_address(filepath)
        self._fetched = Path(fetched)
        self._tool: ReadTool = tool
        self._images = images
        self._rules = ReadRules(
            annotators=annotators,
            empty_images=empty_images,
            invalid_annotations=invalid_annotations,
            orientation=orientation,
        )
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        path = fetch_annotations(self._filepath, self._fetched)
        folder = self._filepath if path.is_dir() else above(self._filepath)
        images = fetch_annotations(folder, self._fetched, self._images)
        return read_annotations(self._tool, path, images, self._rules)

    def _exists(self) -> bool:
        return exists(self._filepath) or exists(self._filepath, file=True)
