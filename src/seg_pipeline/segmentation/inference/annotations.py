"""Predictions as annotations that people correct in a label tool."""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from seg_pipeline.segmentation.formats.label_tools import Picture, Style, WriteTool, write_annotations
from seg_pipeline.segmentation.images.addresses import file_of
from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.images.remote import is_remote, open_file
from seg_pipeline.segmentation.objects.label_maps import decode_labels
from seg_pipeline.segmentation.prediction.bundle import Bundle

Images = Literal["reference", "copy"]
ONE_PER_NAME: tuple[WriteTool, ...] = ("labelme", "yolo")
"""Tools with a file per image, which has its name without the extension."""


@dataclass(frozen=True)
class _Pictures:
    """Pictures of the records of ``predict_folder``, decoded one at a time at each iteration."""

    records: list[dict[str, Any]]
    paths: dict[str, str]

    def __iter__(self) -> Iterator[Picture]:
        for record in self.records:
            size = record["height"], record["width"]
            masks = {name: decode_rle(rle, size, order="C") for name, (rle, *_) in record["classes"].items()}
            objects_by_class = record.get("objects", {}).get("classes", {})
            objects = {name: decode_labels(text, size) for name, (text, _) in objects_by_class.items()}
            yield Picture(record["file"], self.paths[record["image_id"]], size, masks, objects)


def annotate(
    tools: Iterable[WriteTool],
    folder: Path,
    records: list[dict[str, Any]],
    table: pd.DataFrame,
    bundle: Bundle,
    style: Style,
    images: Images,
) -> pd.DataFrame:
    """Write predictions for label tools; return the table of ``write_annotations``.

    Args:
        folder: where the annotations are written; images are copied to its folder images/ or named by their paths.
        records: records of ``predict_folder`` for the images of ``table``.

    Raises:
        ValueError: an image to refer to by its path is at an address, or two images would share a file of a tool.
    """
    files = files_of(table, images)
    _refuse_shared_files(tools, [record["file"] for record in records])
    paths = {name: path if is_remote(path) else Path(path).absolute().as_posix() for name, path in files.items()}
    for record in records if images == "copy" else ():
        name = record["image_id"]
        paths[name] = f"images/{record['file']}"
        target = folder / paths[name]
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_file(files[name]) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    folder.mkdir(parents=True, exist_ok=True)
    colours = dict(zip(bundle.classes, bundle.colours, strict=True))
    return write_annotations(tools, folder, _Pictures(records, paths), colours, style)


def _refuse_shared_files(tools: Iterable[WriteTool], files: list[str]) -> None:
    first: dict[str, str] = {}
    for file in files:
        other = first.setdefault(Path(file).with_suffix("").as_posix(), file)
        if other != file and (shared := [tool for tool in tools if tool in ONE_PER_NAME]):
            raise ValueError(
                f"{other} and {file} would share one file of {' and '.join(shared)}, which have a file per name; "
                "rename one of the images, or choose other `annotate.tools`"
            )


def files_of(table: pd.DataFrame, images: Images) -> dict[str, str]:
    """File of each image by its id.

    Raises:
        ValueError: an image to refer to by its path is at an address.
    """
    files = {row["image_id"]: file_of(row["path"]) for row in table.to_dict("records")}
    remote = next(filter(is_remote, files.values()), None)
    if remote and images == "reference":
        raise ValueError(f"annotate.images: reference, but {remote} is not a file of this machine; set `copy`")
    return files
