"""Layout with a COCO annotation file, or one per split."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.classes import evenly, task_of
from seg_pipeline.new_data.layouts.pictures import index_of
from seg_pipeline.new_data.plan import NO_MASK_FILES, RAW, Classes, Entry, Plan
from seg_pipeline.new_data.scanning import Contents, common_folder, glob_of, literal, stem
from seg_pipeline.segmentation.formats.coco import read_coco
from seg_pipeline.segmentation.formats.json_files import read_json
from seg_pipeline.segmentation.formats.named_files import find_files, spellings
from seg_pipeline.segmentation.images.decoding import read_size
from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS

ANNOTATIONS = {
    "mask_format": "rle",
    "columns": {"image_id": "image_id", "class": "class", "mask": "mask"},
    "rle_order": "C",
    "rle_first": 1,
    "multiple_masks": "instances",
}
"""`data_processing.annotations` for annotation tables."""
SPLIT = re.compile(r"(?<![a-z])(?:(train)(?:ing)?|(val)(?:id(?:ation)?)?|(test)(?:ing)?)(?![a-z])", re.I)


def by_split(files: list[str]) -> list[dict[str, str]]:
    """JSON files by split: those whose paths differ only in the word for the split are one data set.

    A file on its own has the split "".
    """
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for file in files:
        words = {match.lastindex: match for match in SPLIT.finditer(file)}
        split = ("train", "val", "test")[next(iter(words)) - 1] if len(words) == 1 else ""  # type: ignore[operator]
        key = SPLIT.sub("*", file) if split else file
        groups[key if split not in groups[key] else file][split] = file
    found = [one if {"train", "val"} <= one.keys() else None for one in groups.values()]
    alone = [
        {"": file} for one, whole in zip(groups.values(), found, strict=True) if not whole for file in one.values()
    ]
    return [one for one in found if one] + alone


def read(contents: Contents, files: dict[str, str], ask: Asker) -> Plan:
    """Plan for COCO files by split, or of one under "".

    Raises:
        ValueError: the folder does not hold the images, or no annotation can be used.
    """
    listed = {split: [str(one["file_name"]) for one in read_json(contents.root / file)["images"]]
              for split, file in files.items()}  # fmt: skip
    folders = {split: _folder(contents, file, listed[split], split) for split, file in files.items()}
    for part, file in files.items():
        _refuse_absent(contents, contents.root / file, folders[part], listed[part])
    root = folders[""] if "" in files else ""
    tables = {split: _read(contents, file, folders[split], root) for split, file in files.items()}
    table = pd.concat(tables.values(), ignore_index=True)
    shown = f"{' and '.join(files.values())}: COCO, {sum(map(len, listed.values()))} images"
    paths, classes = described(contents, table, root, shown, ask)
    pictures = [path.relative_to(contents.root).as_posix() for path in paths.values()]
    catalog = {"raw_metadata": _entry(files, folders), "mask_files": NO_MASK_FILES}
    given = shares = None
    if "" in files:
        whole = any("/" in image_id for image_id in paths)
        catalog["image_files"] = index_of(pictures, root, ask, whole=whole, others=[])
    else:
        catalog["image_files"] = _index_of_splits(contents, pictures, set(folders.values()), ask)
        catalog["predefined_splits"] = {**catalog["raw_metadata"], "part": "splits"}
        given = {name: split for split, one in tables.items() for name in one["image_id"].dropna()}
        shares = {"method": "table", "shares": _shares(given)}
    return Plan(contents.root, catalog, classes, ANNOTATIONS, list(paths.values()), splits=given, split=shares or {})


def described(
    contents: Contents, table: pd.DataFrame, root: str, shown: str, ask: Asker
) -> tuple[dict[str, Path], Classes]:
    """Image files by image_id and the classes of an annotation table, after telling what it holds.

    Raises:
        ValueError: none of its images exists.
    """
    counts = table.loc[table["class"].notna() & table["class"].ne(NO_CLASS), "class"].value_counts()
    ask.decide(f"{shown}, {int(counts.sum())} annotations, one object each")
    ask.decide(f"classes: {', '.join(f'{name} ({number})' for name, number in counts.items())}")
    alike = Counter(str(name).casefold() for name in counts.index)
    for name in (name for name, number in alike.items() if number > 1):
        same = " and ".join(str(one) for one in counts.index if str(one).casefold() == name)
        ask.decide(f"{same} differ in upper and lower case alone; if they are one class, correct the annotations")
    if counts.empty:
        raise ValueError(f"{contents.root}: {shown}, but no shape is a mask of a class")
    paths = _paths(contents, table, root)
    _tell_faults(table, paths, ask)
    if not paths:
        named = table["image_id"].dropna()
        raise ValueError(f"{contents.root}: the annotations name {named.iloc[0]}, but no such file exists")
    return paths, task_of({str(name): str(name) for name in sorted(counts.index)}, _stacks(table, paths), ask)


def _index_of_splits(contents: Contents, pictures: list[str], folders: set[str], ask: Asker) -> Entry:
    """Index of images whose ids start with the folder of their split, which is not a group."""
    starts = sorted((f"{folder}/" if folder else "" for folder in folders), key=len, reverse=True)
    names = [file[len(next(start for start in starts if file.startswith(start))) :] for file in pictures]
    entry = index_of(names, "", ask, whole=True, others=[])
    either = "|".join(literal(start) for start in starts)
    pattern = entry["pattern"].replace("(?P<image_id>", f"(?P<image_id>(?:{either})", 1)
    others = sorted({*contents.pictures, *contents.jsons} - {*pictures})
    return {**entry, "glob": glob_of(pictures, "", others), "pattern": pattern}


def _read(contents: Contents, file: str, folder: str, root: str) -> pd.DataFrame:
    return read_coco(contents.root / file, contents.root / folder, root=contents.root / root)


def _entry(files: dict[str, str], folders: dict[str, str]) -> Entry:
    entry: Entry = {"type": "seg_pipeline.datasets.coco.CocoDataset"}
    if "" not in files:
        places = {split: {"file": file, "images": folders[split] or "."} for split, file in files.items()}
        return {**entry, "filepath": RAW, "splits": places}
    up = "../" * (len(PurePosixPath(files[""]).parts) - 1)
    return {**entry, "filepath": f"{RAW}/{files['']}", "images": up + folders[""] or "."}


def _shares(given: dict[str, str]) -> dict[str, float]:
    """Shares of the splits; 0 where a split has no file."""
    numbers = Counter(given.values())
    shares = {split: round(numbers[split] / len(given), 4) for split in ("val", "test")}
    return {"train": round(1 - sum(shares.values()), 4), **shares}


def _tell_faults(table: pd.DataFrame, paths: dict[str, Path], ask: Asker) -> None:
    absent = sorted(set(table["image_id"].dropna()) - {*paths})
    if absent:
        ask.decide(f"images without a file: {len(absent)}, such as {absent[0]}; left out, with a finding")
    for repair in table["repaired"].dropna():
        ask.decide(repair)
    problems = table["problem"].dropna()
    if len(problems):
        ask.decide(
            f"unusable annotations or images: {len(problems)}, such as: {problems.iloc[0]}. An annotation takes "
            "its image along unless `invalid_annotations: drop_annotation` is set in the catalog"
        )


def _refuse_absent(contents: Contents, path: Path, folder: str, listed: list[str]) -> None:
    if not any(one.file for one in find_files(listed, contents.root / folder, beside=path.parent).values()):
        raise ValueError(
            f"{path} names {', '.join(listed[:1]) or 'no image'}, but no such file exists; the images are called "
            f"{', '.join(contents.pictures[:2])}"
        )


def _folder(contents: Contents, file: str, listed: list[str], split: str) -> str:
    """The folder that the file names are relative to, or the one that holds their files."""
    names: dict[str, set[str]] = defaultdict(set)
    for text in (text for name in listed for text in spellings(name)):
        names[text.rsplit("/", 1)[-1]].add(text)
    ends: Counter[str] = Counter()
    for picture in contents.pictures:
        for name in names[picture.rsplit("/", 1)[-1]]:
            if f"/{picture}".endswith(f"/{name}"):
                ends[picture[: -len(name) - 1]] += 1
    if not ends:
        found = find_files(listed, contents.root, beside=(contents.root / file).parent)
        return common_folder([one.file for one in found.values() if one.file])
    own = PurePosixPath(file).parent.as_posix()
    return max(ends, key=lambda end: (ends[end], bool(split) and split in end.lower(), end == own))


def _paths(contents: Contents, table: pd.DataFrame, root: str) -> dict[str, Path]:
    """Image files by image_id, without those that are absent."""
    named = set(table["image_id"].dropna())
    before = f"{root}/" if root else ""
    ids = {stem(file.removeprefix(before)): file for file in contents.pictures if file.startswith(before)}
    return {image_id: contents.root / file for image_id, file in ids.items() if image_id in named}


def _stacks(table: pd.DataFrame, paths: dict[str, Path]) -> Iterator[list[np.ndarray]]:
    """Bool masks per class of a sample of images."""
    drawn = table[table["image_id"].isin(paths)].dropna(subset=["mask"])
    for image in evenly(list(drawn["image_id"].unique()), 40):
        shape = read_size(paths[image])
        of_image = drawn[drawn["image_id"] == image].groupby("class")["mask"]
        yield [np.any([decode_rle(text, shape, order="C") for text in group], axis=0) for _, group in of_image]
