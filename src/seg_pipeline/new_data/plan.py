"""The contents of an environment, before it is written."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seg_pipeline.segmentation.settings.training import Task

Value = int | str | list[int]
Entry = dict[str, Any]

RAW = "${runtime_params:raw_root,${globals:raw_root}}"
DATA = "${runtime_params:data_root,${globals:data_root}}"
NO_MASK_FILES: Entry = {
    "type": "seg_pipeline.datasets.file_index.FileIndexDataset",
    "filepath": RAW,
    "pattern": None,
}


@dataclass(frozen=True)
class Classes:
    values: dict[str, Value]
    """Class name to its value in the masks or the table, in channel order."""
    task: Task
    unlabelled_pixels: Literal["background", "ignore"] = "background"
    background: list[Value] = field(default_factory=list)
    ignore: list[Value] = field(default_factory=list)
    nearest: bool = False
    """Lossy compression changed the masks: `annotations.nearest_value`."""
    objects: bool = False
    """The values of indexed masks number objects: `annotations.multiple_masks`."""


@dataclass(frozen=True)
class Plan:
    raw_root: Path
    catalog: dict[str, Entry]
    """raw_metadata, image_files and mask_files."""
    classes: Classes
    annotations: dict[str, Any]
    """`data_processing.annotations`, without the values in ``classes``."""
    pictures: list[Path]
    """Image files, to measure their sizes; empty for volumes."""
    cases: list[list[Path]] = field(default_factory=list)
    """Files per case of volumes; the check uses a few cases."""
    groups: list[str] = field(default_factory=list)
    """Group of each case."""
    annotated: frozenset[str] | None = None
    """Ids of the images with a row; None: all."""
    splits: dict[str, str] | None = None
    """Split of each image, if the data gives it; `splits.csv` holds it unless the catalog has `predefined_splits`."""
    split: dict[str, Any] = field(default_factory=dict)
    """`data_processing.split`, where the data says more than the defaults."""


def file_index(folder: str, glob: str, pattern: str, **columns: str) -> Entry:
    """Catalog entry for the files below ``folder`` of the raw data."""
    entry: Entry = {
        "type": "seg_pipeline.datasets.file_index.FileIndexDataset",
        "filepath": f"{RAW}/{folder}" if folder else RAW,
        "glob": glob,
        "pattern": pattern,
    }
    return {**entry, "columns": columns} if columns else entry
