"""Recognise the layouts that a folder may have, the most certain first."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.class_lists import named_values
from seg_pipeline.new_data.layouts import (
    coco,
    dicom,
    label_tools,
    pictures,
    table_columns,
    table_files,
    tables,
    volumes,
)
from seg_pipeline.new_data.layouts.hints import hints, is_panoptic
from seg_pipeline.new_data.layouts.mask_pixels import told_by_pixels
from seg_pipeline.new_data.plan import Plan
from seg_pipeline.new_data.scanning import Contents

MOST_JSONS = 50
"""Only so many JSON files are opened to recognise a layout."""


class Layout(NamedTuple):
    name: str
    about: str
    read: Callable[[Asker], Plan | str | None]
    """The plan, or why the files are not as the layout says."""


def find(contents: Contents) -> tuple[list[Layout], list[str], dict[str, table_files.Table]]:
    """Every layout that the folder may have, why other files are none, and the tables.

    Names of repeated layouts are numbered.
    """
    given, faults = table_files.read_tables(contents)
    names = named_values(contents, [one.rows for one in given])
    recognised = [*_described(contents, names), *_tabled(contents, given, names), *_pictured(contents, names)]
    if not any(isinstance(one, Layout) for one in recognised):
        contents = told_by_pixels(contents)
        recognised += _pictured(contents, names)
    found = [one for one in recognised if isinstance(one, Layout)]
    reasons = [*faults, *(one for one in recognised if isinstance(one, str)), *hints(contents)]
    seen: Counter[str] = Counter()
    numbered = []
    for one in found:
        seen[one.name] += 1
        numbered.append(one._replace(name=f"{one.name}-{seen[one.name]}") if seen[one.name] > 1 else one)
    return numbered, reasons, {one.file: one for one in given}


def _described(contents: Contents, names: dict[str, str]) -> list[Layout]:
    """Layouts that are certain from one file or a kind of file."""
    found = []
    annotated = []
    jsons = {file: contents.content(file) for file in contents.jsons[:MOST_JSONS]}
    for file, content in jsons.items():
        if not isinstance(content, dict):
            continue
        if file.rsplit("/", 1)[-1] == "dataset.json":
            names = {**volumes.decathlon_names(content), **names}
        if file.rsplit("/", 1)[-1] == "dataset.json" and {"channel_names", "labels"} <= content.keys():
            read = partial(volumes.read_nnunet_raw, contents, file)
            found.append(Layout("nnunet", f"nnU-Net's raw layout, by {file}", read))
        elif {"images", "annotations", "categories"} <= content.keys() and not is_panoptic(content):
            annotated.append(file)
    for files in coco.by_split(annotated):
        about = f"COCO annotations in {' and '.join(files.values())}"
        found.append(Layout("coco", about, partial(coco.read, contents, files)))
    for tool, file in label_tools.recognise(contents, jsons):
        about = f"annotations of {tool} in {file or 'its files'}"
        found.append(Layout(tool, about, partial(label_tools.read, contents, tool, file)))
    if dicoms := dicom.list_dicom(contents):
        about = f"{len(dicoms)} DICOM files"
        found.append(Layout("dicom", about, partial(dicom.read, contents, dicoms, names)))
    if contents.volumes and not any(one.name == "nnunet" for one in found):
        about = f"{len(contents.volumes)} volumes (NIfTI, NRRD or MetaImage)"
        found.append(Layout("nifti", about, partial(volumes.read_nifti, contents, names)))
    return found


def _tabled(contents: Contents, given: list[table_files.Table], names: dict[str, str]) -> Iterator[Layout | str]:
    for table in given if contents.pictures else ():
        form = table_columns.recognise(contents, table)
        if isinstance(form, str):
            yield form
            continue
        name, what = ("files", "names mask files") if form.mask_files else ("rle", "holds run lengths")
        yield Layout(name, f"{table.file} {what}", partial(tables.read, contents, form, names))


def _pictured(contents: Contents, names: dict[str, str]) -> Iterator[Layout]:
    for folder, masks in contents.masks.items() if contents.images else ():
        about = f"images, and masks in {folder or 'files of their names'}"
        yield Layout("pictures", about, partial(pictures.read, contents, masks, names))
