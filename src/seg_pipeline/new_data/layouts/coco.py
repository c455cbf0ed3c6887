"""Layout with a COCO annotation file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.classes import evenly, task_of
from seg_pipeline.new_data.layouts.pictures import index_of
from seg_pipeline.new_data.plan import NO_MASK_FILES, RAW, Plan
from seg_pipeline.new_data.scanning import Contents, below, stem
from seg_pipeline.segmentation.formats.coco import read_coco
from seg_pipeline.segmentation.formats.json_files import read_json
from seg_pipeline.segmentation.images.decoding import read_size
from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS


def read(contents: Contents, file: str, ask: Asker) -> Plan:
    """Plan for a COCO file; raises ValueError if the folder does not hold its images."""
    listed = [str(one["file_name"]) for one in read_json(contents.root / file)["images"]]
    folder = _folder(contents, listed)
    table = read_coco(contents.root / file, contents.root / folder)
    counts = table.loc[~table["class"].isin([NO_CLASS]), "class"].value_counts()
    ask.decide(f"{file}: COCO, {len(listed)} images, {int(counts.sum())} annotations, one object each")
    ask.decide(f"classes: {', '.join(f'{name} ({number})' for name, number in counts.items())}")
    files = [f"{folder}/{name}" if folder else name for name in listed]
    paths = {stem(name): contents.root / one for name, one in zip(listed, files, strict=True)}
    classes = task_of({str(name): str(name) for name in sorted(counts.index)}, _stacks(table, paths), ask)
    annotations = {
        "mask_format": "rle",
        "columns": {"image_id": "image_id", "class": "class", "mask": "mask"},
        "rle_order": "C",
        "rle_first": 1,
        "multiple_masks": "instances",
    }
    up = "../" * (len(PurePosixPath(file).parts) - 1)
    metadata = {"type": "seg_pipeline.datasets.coco.CocoDataset", "filepath": f"{RAW}/{file}", "images": up + folder}
    whole = any("/" in name for name in listed)
    catalog = {
        "raw_metadata": metadata,
        "image_files": index_of(files, folder, ask, whole=whole, others=[]),
        "mask_files": NO_MASK_FILES,
    }
    return Plan(contents.root, catalog, classes, annotations, list(paths.values()))


def _folder(contents: Contents, listed: list[str]) -> str:
    """The folder that the file names are relative to."""
    wanted = set(listed)
    ends = [
        file[: -len(name) - 1] for name in listed[:1] for file in contents.pictures if f"/{file}".endswith(f"/{name}")
    ]
    folders = {end: sum(name in wanted for name in below(_in(contents, end), end)) for end in ends}
    if not folders:
        raise ValueError(f"{contents.root}: the annotations name {listed[0]}, but there is no such file")
    return max(folders, key=lambda end: folders[end])


def _in(contents: Contents, folder: str) -> list[str]:
    return [file for file in contents.pictures if file.startswith(f"{folder}/" if folder else "")]


def _stacks(table: pd.DataFrame, paths: dict) -> Iterator[list[np.ndarray]]:
    """Bool masks per class of a sample of images."""
    drawn = table.dropna(subset=["mask"])
    for image in evenly(list(drawn["image_id"].unique()), 40):
        shape = read_size(paths[image])
        of_image = drawn[drawn["image_id"] == image].groupby("class")["mask"]
        yield [np.any([decode_rle(text, shape, order="C") for text in group], axis=0) for _, group in of_image]
