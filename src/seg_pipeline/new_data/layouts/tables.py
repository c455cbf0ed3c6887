"""A table of run lengths, or of the names of mask files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.classes import SAMPLED, evenly, task_of, text_name
from seg_pipeline.new_data.layouts.pictures import image_entry, image_ids, index_of
from seg_pipeline.new_data.layouts.run_lengths import Order, declare, decoded
from seg_pipeline.new_data.plan import NO_MASK_FILES, RAW, Entry, Plan, file_index
from seg_pipeline.new_data.scanning import Contents, below, common_folder, endings_of, glob_of, stem
from seg_pipeline.segmentation.images.decoding import read_size, read_values
from seg_pipeline.segmentation.images.masks import binary_mask

RUNS = re.compile(r"\s*\d+\s+\d+(?:\s+\d+\s+\d+)*\s*")
ENOUGH = 0.9
CLASS_WORDS = ("class", "class_id", "classid", "label", "category", "class_name", "structure")
SCAN = re.compile(
    r"(?P<group>case\d+)/(?P<series>case\d+_day\d+)/scans/"
    r"slice_(?P<slice>(?P<frame>\d+))_(?P<width>\d+)_(?P<height>\d+)_(?P<spacing_x>[\d.]+)_(?P<spacing_y>[\d.]+)"
)
"""Names of the UW-Madison GI tract data, whose ids are made of several of their parts."""


Table = pd.DataFrame


@dataclass(frozen=True)
class Columns:
    image: str
    mask: str
    class_: str
    paths: dict[str, str]
    """Image file, below the root, by id."""


def read_tables(contents: Contents) -> dict[str, pd.DataFrame]:
    """All CSV files of the folder as text, the shortest last; those that are no table are passed over."""
    found = {}
    for file in contents.tables:
        try:
            table = pd.read_csv(contents.root / file, dtype="str")
            found[file] = table.set_axis([str(name) for name in table], axis=1)
        except (ValueError, OSError):  # empty, or no text
            continue
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def rle_columns(contents: Contents, table: pd.DataFrame) -> Columns | None:
    """Which column holds what; None where this is no table of run lengths over these images."""
    runs = [
        name for name in map(str, table) if _share(table[name], RUNS.fullmatch) >= ENOUGH and table[name].notna().any()
    ]
    longest = max(runs, key=lambda name: table[name].str.len().mean(), default=None)
    return None if longest is None else _completed(table, longest, image_names(contents.pictures))


def file_columns(contents: Contents, table: pd.DataFrame, masks: list[str]) -> Columns | None:
    """The same of a table that names mask files."""
    names = {stem(file) for file in below(masks, common_folder(masks))}
    named = [name for name in map(str, table) if _share(table[name], names.__contains__) >= ENOUGH]
    longest = max(named, key=lambda name: table[name].nunique(), default=None)
    return None if longest is None else _completed(table, longest, image_names(contents.images))


def _share(column: pd.Series, test: Callable[[str], object]) -> float:
    values = column.dropna().unique()[:1000]
    return sum(bool(test(value)) for value in values) / max(1, len(values))


def image_names(files: list[str]) -> dict[str, str]:
    """Files by what a table may call them: the name, with or without ending, or the whole path."""
    folder = common_folder(files)
    paths = below(files, folder)
    found = {key: file for path, file in zip(paths, files, strict=True)
             for key in (path, stem(path), path.rsplit("/", 1)[-1], stem(path.rsplit("/", 1)[-1]))}  # fmt: skip
    scans = {f"{one['series']}_slice_{one['slice']}": file for path, file in zip(paths, files, strict=True)
             if (one := SCAN.fullmatch(stem(path)))}  # fmt: skip
    return found | scans


def _completed(table: pd.DataFrame, mask: str, paths: dict[str, str]) -> Columns | None:
    others = [name for name in map(str, table) if name != mask]
    known = {name: _share(table[name], paths.__contains__) for name in others}
    image = max(others, key=lambda name: (known[name], table[name].nunique()), default=None)
    if image is None or known[image] < 0.5:
        return None
    rest = [name for name in others if name != image and 0 < table[name].nunique() <= SAMPLED]
    if not rest:
        raise ValueError(
            f"the table has the columns {list(table)}: {image} names images and {mask} masks, but none names "
            "classes; add one, such as `class` with the same word in each row"
        )
    rest.sort(key=lambda name: (name.lower() not in CLASS_WORDS, table[name].nunique()))
    found = {key: paths[key] for key in table[image].dropna().unique() if key in paths}
    return Columns(image, mask, rest[0], found)


def _table_entry(file: str) -> Entry:
    return {"type": "pandas.CSVDataset", "filepath": f"{RAW}/{file}", "load_args": {"dtype": "str"}}


def read_rle(
    contents: Contents, file: str, table: pd.DataFrame, columns: Columns, known: dict[str, str], ask: Asker
) -> Plan:
    ask.decide(f"{file}: {columns.image} names images, {columns.class_} classes, {columns.mask} holds run lengths")
    rows = table.dropna(subset=[columns.image, columns.mask])
    rows = rows[rows[columns.image].isin(list(columns.paths))]
    sample = _sampled(rows, columns)
    shapes = {image: read_size(contents.root / columns.paths[image]) for image in sample[columns.image].unique()}
    runs = [
        (columns.paths[image], shapes[image], name, text)
        for image, name, text in sample[[columns.image, columns.class_, columns.mask]].itertuples(index=False)
    ]
    known_first = 1 if _is_scan(next(iter(columns.paths.values()))) else None
    order, first = declare([(contents.root / path, *rest) for path, *rest in runs], known_first, ask)
    values = sorted(table[columns.class_].dropna().unique())
    classes = task_of({text_name(value, known): value for value in values}, _stacks(runs, order, first), ask)
    annotations = {
        "mask_format": "rle",
        "columns": {"image_id": columns.image, "class": columns.class_, "mask": columns.mask},
        "rle_order": order,
        "rle_first": first,
        "multiple_masks": _several(rows, columns, ask),
    }
    catalog = {
        "raw_metadata": _table_entry(file),
        "image_files": _images(contents, columns, ask),
        "mask_files": NO_MASK_FILES,
    }
    return Plan(contents.root, catalog, classes, annotations, [contents.root / one for one in columns.paths.values()])


def _sampled(rows: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """All rows of some images, those with several masks first."""
    number = rows[columns.image].value_counts()
    images = evenly(list(number[number == number.max()].index) + list(number[number < number.max()].index)[:SAMPLED])
    return rows[rows[columns.image].isin(images)]


def _stacks(runs: list[tuple], order: Order, first: int) -> Iterator[list[np.ndarray]]:
    of_image: dict[str, dict[str, np.ndarray]] = {}
    for path, shape, name, text in runs:
        mask = decoded(text, shape, order, first)
        if mask is not None:
            masks = of_image.setdefault(path, {})
            masks[name] = mask | masks[name] if name in masks else mask
    return iter([list(masks.values()) for masks in of_image.values()])


def _several(rows: pd.DataFrame, columns: Columns, ask: Asker) -> str:
    """Whether several masks of a class in an image contradict each other."""
    twice = rows.drop_duplicates().duplicated([columns.image, columns.class_])
    if not twice.any():
        return "refuse"
    ask.decide(f"{int(twice.sum())} rows name a class of their image again: an object each (`instances`; "
               "if they are parts of one mask, write `merge`)")  # fmt: skip
    return "instances"


def _is_scan(file: str) -> bool:
    """Whether the end of the path is named as the UW-Madison data is."""
    return SCAN.fullmatch(stem("/".join(file.split("/")[-4:]))) is not None


def _images(contents: Contents, columns: Columns, ask: Asker) -> Entry:
    """By the table's way to name them."""
    files = sorted(set(columns.paths.values()))
    key, file = next(iter(columns.paths.items()))
    folder = common_folder(contents.images)
    path = below([file], folder)[0]
    if _is_scan(file):
        ask.decide("images: named as the UW-Madison data; the case is the group, case and day the series")
        pattern = SCAN.pattern + endings_of(files)
        return file_index(folder, "**/*", pattern, image_id="{series}_slice_{slice}")
    entry = _entry_by(key, path, contents, ask)
    if key.endswith(path[len(stem(path)) :]):  # the id carries the ending
        ending = endings_of(contents.images)
        pattern = entry["pattern"].removesuffix(ending)
        entry = {**entry, "pattern": pattern.removesuffix(")") + ending + ")" if pattern.endswith(")") else pattern}
    return entry


def _entry_by(key: str, path: str, contents: Contents, ask: Asker) -> Entry:
    folder, _, repeats = image_ids(contents)
    whole = repeats or ("/" in path and key in (path, stem(path)))
    return index_of(contents.images, folder, ask, whole=whole, others=contents.pictures)


def read_files(
    contents: Contents, file: str, table: pd.DataFrame, columns: Columns, masks: list[str], known: dict, ask: Asker
) -> Plan:
    ask.decide(f"{file}: {columns.image} names images, {columns.class_} classes, {columns.mask} mask files")
    folder = common_folder(masks)
    path_of = {stem(name): contents.root / one for name, one in zip(below(masks, folder), masks, strict=True)}
    rows = table[table[columns.mask].isin(list(path_of)) & table[columns.image].notna()]
    values = sorted(rows[columns.class_].dropna().unique(), key=lambda value: (len(value), value))
    stacks = _file_stacks(_sampled(rows, columns), columns, path_of)
    classes = task_of({text_name(value, known): value for value in values}, stacks, ask)
    annotations = {
        "mask_format": "files",
        "columns": {"image_id": columns.image, "class": columns.class_, "mask": columns.mask},
        "multiple_masks": _several(rows, columns, ask),
    }
    others = sorted({*contents.pictures} - {*masks})
    catalog = {
        "raw_metadata": _table_entry(file),
        "image_files": image_entry(contents, ask),
        "mask_files": file_index(folder, glob_of(masks, folder, others), f"(?P<mask_id>.+){endings_of(masks)}"),
    }
    return Plan(contents.root, catalog, classes, annotations, [contents.root / one for one in contents.images])


def _file_stacks(rows: pd.DataFrame, columns: Columns, path_of: dict[str, Path]) -> Iterator[list[np.ndarray]]:
    for _, of_image in list(rows.groupby(columns.image))[:40]:
        yield [binary_mask(read_values(path_of[mask])) for mask in of_image[columns.mask]]
