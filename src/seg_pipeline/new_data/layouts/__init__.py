"""Recognise the layouts that a folder may have, the most certain first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.classes import class_names
from seg_pipeline.new_data.layouts import coco, pictures, tables, volumes
from seg_pipeline.new_data.plan import Plan
from seg_pipeline.new_data.scanning import Contents
from seg_pipeline.segmentation.formats.json_files import read_json

MOST_JSONS = 50
"""Only so many JSON files are opened: no supported layout has one per image."""


class Layout(NamedTuple):
    name: str
    about: str
    read: Callable[[Asker], Plan | None]


def find(contents: Contents) -> list[Layout]:
    """Every layout that the folder may have; names of repeated layouts are numbered."""
    given = tables.read_tables(contents)
    names = class_names(given.values())
    found = [*_described(contents, names), *_tabled(contents, given, names), *_pictured(contents, names)]
    kinds = [one.name for one in found]
    return [
        one._replace(name=f"{one.name}-{kinds[:at].count(one.name) + 1}") if one.name in kinds[:at] else one
        for at, one in enumerate(found)
    ]


def _content(path: Path) -> dict:
    """Content of a JSON file that holds a mapping; {} for any other."""
    try:
        content = read_json(path)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _described(contents: Contents, names: dict[str, str]) -> list[Layout]:
    """Layouts that are certain from one file or a kind of file."""
    found = []
    annotated = []
    for file in contents.jsons[:MOST_JSONS]:
        content = _content(contents.root / file)
        if file.rsplit("/", 1)[-1] == "dataset.json":
            names = {**volumes.decathlon_names(content), **names}
        if file.rsplit("/", 1)[-1] == "dataset.json" and {"channel_names", "labels"} <= content.keys():
            read = partial(volumes.read_nnunet_raw, contents, file)
            found.append(Layout("nnunet", f"nnU-Net's raw layout, by {file}", read))
        elif {"images", "annotations", "categories"} <= content.keys():
            annotated.append(file)
    for files in coco.by_split(annotated):
        about = f"COCO annotations in {' and '.join(files.values())}"
        found.append(Layout("coco", about, partial(coco.read, contents, files)))
    if contents.volumes and not any(one.name == "nnunet" for one in found):
        about = f"{len(contents.volumes)} volumes (NIfTI, NRRD or MetaImage)"
        found.append(Layout("nifti", about, partial(volumes.read_nifti, contents, names)))
    return found


def _tabled(contents: Contents, given: dict[str, tables.Table], names: dict[str, str]) -> list[Layout]:
    found = []
    for file, table in given.items():
        if columns := tables.rle_columns(contents, table):
            read = partial(tables.read_rle, contents, file, table, columns, names)
            found.append(Layout("rle", f"run lengths in {file}", read))
            continue
        for folder, masks in contents.masks.items():
            if columns := tables.file_columns(contents, table, masks):
                reading = partial(tables.read_files, contents, file, table, columns, masks, names)
                found.append(Layout("files", f"{file} names mask files in {folder}", reading))
    return found


def _pictured(contents: Contents, names: dict[str, str]) -> list[Layout]:
    return [
        Layout(
            "pictures",
            f"images, and masks in {folder or 'files of their names'}",
            partial(pictures.read, contents, masks, names),
        )
        for folder, masks in contents.masks.items()
        if contents.images
    ]
