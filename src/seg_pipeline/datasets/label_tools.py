"""Catalog entry for annotations of label tools."""

from typing import Any

import pandas as pd

from seg_pipeline.datasets.described import check_choices, local_path
from seg_pipeline.datasets.file_index import ReadOnlyTable
from seg_pipeline.segmentation.formats.coco import InvalidAnnotations, Orientation
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
        filepath: the file of CVAT (XML), Label Studio or VIA (JSON), or the folder of the files of labelme,
            Supervisely or YOLO.
        tool: cvat, label_studio, labelme, via, supervisely or yolo.
        images: the folder of the images, relative to the file's folder or to the folder.
        annotators: where several people annotated an image: "refuse", "latest", or "vote" (pixels that more than half
            of them marked).
        empty_images: an image without a shape shows no class ("negative") or is left out ("leave_out"); "auto": a
            negative if the tool says that someone saved it.
        invalid_annotations, orientation: as of ``CocoDataset``.
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
        metadata: dict[str, Any] | None = None,
    ) -> None:
        check_choices(
            ("tool", tool, ReadTool),
            ("annotators", annotators, Annotators),
            ("empty_images", empty_images, EmptyImages),
            ("invalid_annotations", invalid_annotations, InvalidAnnotations),
            ("orientation", orientation, Orientation),
        )
        self._filepath = local_path(filepath, "files of label tools")
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
        beside = self._filepath if self._filepath.is_dir() else self._filepath.parent
        return read_annotations(self._tool, self._filepath, beside / self._images, self._rules)

    def _exists(self) -> bool:
        return self._filepath.exists()
