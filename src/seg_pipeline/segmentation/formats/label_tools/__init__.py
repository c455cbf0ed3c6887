"""Annotations of label tools: one module per tool, which reads what people drew and writes what a model predicted."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import pandas as pd

from seg_pipeline.segmentation.formats.label_tools import coco, cvat, label_studio, labelme, supervisely, via, yolo
from seg_pipeline.segmentation.formats.label_tools.shapes import Item, Picture, Style
from seg_pipeline.segmentation.formats.label_tools.table import Annotators, EmptyImages, ReadRules, annotation_table

ReadTool = Literal["cvat", "label_studio", "labelme", "via", "supervisely", "yolo"]
WriteTool = Literal["coco", "cvat", "label_studio", "labelme", "via", "supervisely", "yolo"]
READERS: dict[ReadTool, Callable[[Path], Iterator[Item]]] = {
    "cvat": cvat.read,
    "label_studio": label_studio.read,
    "labelme": labelme.read,
    "via": via.read,
    "supervisely": supervisely.read,
    "yolo": yolo.read,
}
WRITERS: dict[WriteTool, Callable[[Path, Iterable[Picture], dict[str, str], Style], None]] = {
    "coco": coco.write,
    "cvat": cvat.write,
    "label_studio": label_studio.write,
    "labelme": labelme.write,
    "via": via.write,
    "supervisely": supervisely.write,
    "yolo": yolo.write,
}

__all__ = ["READERS", "WRITERS", "Annotators", "EmptyImages", "Picture", "ReadRules", "ReadTool", "Style", "WriteTool",
           "read_annotations", "write_annotations"]  # fmt: skip


def read_annotations(tool: ReadTool, path: Path, images: Path, rules: ReadRules) -> pd.DataFrame:
    """Annotation table of a tool's file (cvat, label_studio, via) or folder of files, as of ``read_coco``.

    Raises:
        ValueError: as ``annotation_table``, or ``path`` holds no annotations of the tool.
    """
    try:
        items = list(READERS[tool](path))
    except Exception as error:  # parts of a foreign file that are missing, or of another kind
        if isinstance(error, MemoryError) or (isinstance(error, ValueError) and str(error).startswith(str(path))):
            raise
        raise ValueError(f"{path}: cannot be read as {tool}: {type(error).__name__}: {error!s:.200}") from None
    if not items:
        raise ValueError(f"{path}: holds no annotations of {tool}")
    return annotation_table(items, path, images, rules)


def write_annotations(
    tools: Iterable[WriteTool], folder: Path, pictures: Iterable[Picture], colours: dict[str, str], style: Style
) -> pd.DataFrame:
    """Write predictions for tools into ``folder``; returns the polygons: tool, file, class, points and reached IoU."""
    tables = []
    for tool in tools:
        style.reached.clear()
        WRITERS[tool](folder, pictures, colours, style)
        tables.append(pd.DataFrame(style.reached, columns=["file", "class", "points", "iou"]).assign(tool=tool))
    return pd.concat(tables, ignore_index=True)[["tool", "file", "class", "points", "iou"]]
