"""A table of run lengths, or of the names of mask files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.classes import SAMPLED, evenly, from_pixels, grey_mask, task_of, text_name
from seg_pipeline.new_data.layouts.pictures import Images, images_by_name
from seg_pipeline.new_data.layouts.run_lengths import Order, declare, decoded
from seg_pipeline.new_data.layouts.table_files import Table
from seg_pipeline.new_data.plan import NO_MASK_FILES, Entry, Plan, Value, file_index
from seg_pipeline.new_data.scanning import (
    MASK_WORD,
    Contents,
    below,
    common_folder,
    endings_of,
    glob_of,
    mask_folder,
    stem,
)
from seg_pipeline.segmentation.images.decoding import read_size
from seg_pipeline.segmentation.manifest.table_forms import read_form

RUNS = re.compile(r"\s*\d+\s+\d+(?:\s+\d+\s+\d+)*\s*")
MARKERS = {"-1", "0", "-", "none", "null", "nan", "[]", "no", "empty"}
"""What tables write for no mask."""
ENOUGH = 0.9
CLASS_WORDS = ("class", "label", "category", "categor", "structure", "organ", "cell_type", "type", "object", "defect")
SCAN = re.compile(
    r"(?P<group>case\d+)/(?P<series>case\d+_day\d+)/scans/"
    r"slice_(?P<slice>(?P<frame>\d+))_(?P<width>\d+)_(?P<height>\d+)_(?P<spacing_x>[\d.]+)_(?P<spacing_y>[\d.]+)"
)
"""Names of the UW-Madison GI tract data, whose ids are made of several of their parts."""


@dataclass(frozen=True)
class Form:
    """Which columns of a table hold what."""

    table: Table
    image: str
    masks: list[str]
    images: Images | None
    """None: named as the UW-Madison data."""
    file_of: dict[str, str]
    """Image file by id."""
    mask_files: list[str] = field(default_factory=list)
    """Empty for run lengths."""
    patterns: dict[str, str] = field(default_factory=dict)

    @property
    def joined(self) -> bool:
        return "(?P<class>" in self.patterns.get(self.image, "")


def recognise(contents: Contents, table: Table) -> Form | str:
    """Which columns hold what, or why this is no table of masks of these images."""
    rows, said = table.rows, f"{table.file} (columns {', '.join(table.columns)})"
    masked, imaged = [_index(some) for some in contents.masks.values()], [_index(contents.images)]
    first = _index(contents.pictures)
    located = {name: _located(rows[name], [first, *(masked + imaged if MASK_WORD.search(name) else imaged + masked)])
               for name in table.columns}  # fmt: skip
    masks = [name for name in table.columns if _share(rows[name], RUNS.fullmatch) >= ENOUGH]
    if masks:
        others = {name: found for name, found in located.items() if name not in masks}
    else:
        named = [name for name in table.columns if _share(rows[name], located[name].__contains__) >= ENOUGH]
        marked = [one for one in named if MASK_WORD.search(one) or _mostly_masks(located[one].values())]
        masks = marked or named[1:2]
        others = {name: located[name] for name in named if name not in masks}
        if not masks:
            return f"{said}: no column holds run lengths (start length start length ...) or names mask files"
    word = re.compile(r"image|img|file|path|frame", re.IGNORECASE)  # a class may be the number of an image by chance
    others = {one: found for one, found in others.items() if word.search(one) or _rank(one) == len(CLASS_WORDS)}
    image = max(others, key=lambda name: (len(others[name]), rows[name].nunique()), default=None)
    if image is None or len(others[image]) < rows[image].nunique() / 2:
        files = ", ".join(contents.pictures[:2]) or "none"
        name = image or next((one for one in table.columns if one not in masks), None)
        held = f"{name} holds {', '.join(rows[name].dropna().unique()[:2])}" if name else "there is no other column"
        return f"{said}: {', '.join(masks)} holds masks, but no column names the images: {held}; image files: {files}"
    return _described(contents, table, image, masks, located)


def _share(column: pd.Series, test: Callable[[str], object]) -> float:
    values = [one for one in evenly(column.dropna().unique().tolist(), 1000) if one.lower() not in MARKERS]
    return sum(bool(test(value)) for value in values) / max(1, len(values))


def _mostly_masks(files: Iterable[str]) -> bool:
    marks = [mask_folder(file) is not None for file in files]
    return sum(marks) > len(marks) / 2


def _index(files: list[str]) -> dict[str, str]:
    """Files by what a table may call them: any end of the path, with or without extension; "" if several have it."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in files:
        for path in (file, stem(file)):
            parts = path.split("/")
            for at in range(len(parts)):
                found["/".join(parts[at:])].add(file)
        last = stem(file).rsplit("/", 1)[-1]
        if (number := re.search(r"\d+$", last)) and number[0] == last:
            found[str(int(last))].add(file)
        if scan := SCAN.search(stem(file)):
            found[f"{scan['series']}_slice_{scan['slice']}"].add(file)
    return {key: next(iter(some)) if len(some) == 1 else "" for key, some in found.items()}


def _located(column: pd.Series, indexes: list[dict[str, str]]) -> dict[str, str]:
    """File of each value of a column that names one, by the first index that knows it."""
    found = {}
    for value in column.dropna().unique():
        path = value.replace("\\", "/")
        for text in (path, path.removesuffix(".0"), path.rpartition("_")[0]):
            parts = text.split("/")
            ends = ["/".join(parts[at:]) for at in range(len(parts))]
            if file := next((index[end] for index in indexes for end in ends if index.get(end)), ""):
                found[value] = file
                break
    return found


def _described(
    contents: Contents, table: Table, image: str, masks: list[str], located: dict[str, dict[str, str]]
) -> Form | str:
    """The form with patterns that make ids of the values of its columns."""
    of_image = located[image]
    patterns: dict[str, str] = {}
    used = sorted(set(of_image.values()))
    mask_files = sorted({file for name in masks for file in located[name].values()} - {*used})
    files = [one for one in contents.images if one not in mask_files]
    files = files if {*used} <= {*files} else sorted({*contents.pictures} - {*mask_files})
    images: Images | None = images_by_name(files)
    scan = all(SCAN.search(stem(file)) for file in used)
    ways = [lambda file: "{series}_slice_{slice}".format(**SCAN.search(stem(file)).groupdict())] if scan else []  # type: ignore[union-attr]
    for way in [None] if scan else [images, Images(files, "path"), Images(files, "number")]:
        name = way.id_of if way else ways[0]
        pattern = _pattern(of_image, name, "image_id", joined=True)
        if pattern is not None:
            break
    else:
        value, file = next(iter(of_image.items()))
        return f"{table.file}: the values of {image}, such as {value} for {file}, name their images in different ways"
    patterns |= {image: pattern} if pattern else {}
    if mask_files:
        own = images_by_name(mask_files)
        for column in masks:
            pattern = _pattern(located[column], own.id_of if own.by == "path" else _below(mask_files), column)
            if pattern is None:
                value, file = next(iter(located[column].items()))
                return (
                    f"{table.file}: the values of {column}, such as {value} for {file}, differ in how they name files"
                )
            patterns |= {column: pattern} if pattern else {}
    return Form(table, image, masks, way, {name(file): file for file in files if not scan or SCAN.search(stem(file))},
                mask_files, patterns)  # fmt: skip


def _below(files: list[str]) -> Callable[[str], str]:
    folder = common_folder(files)
    return lambda file: stem(below([file], folder)[0])


def _pattern(located: dict[str, str], name: Callable[[str], str], group: str, *, joined: bool = False) -> str | None:
    """Regular expression whose group gives the file's id for nearly all values; "" if they are ids themselves."""
    group = group if group.isidentifier() else re.sub(r"\W", "_", f"m_{group}")
    values = {value.replace("\\", "/"): name(file) for value, file in evenly(list(located.items()), 1000)}
    depth = next(iter(values.values())).count("/")
    inner = [".+", rf"[^/]+(?:/[^/]+){{{depth}}}" if depth else "[^/]+"]
    texts = []
    for keys, tail in ((list(values), ""), ([one.rpartition("_")[0] for one in values], "_(?P<class>[^_]+)"))[
        : 1 + joined
    ]:
        ends = {"", endings_of(keys) if all(re.search(r"\.[A-Za-z]+\d?$", one) for one in keys) else ""}
        texts += [
            f"{'' if one == '.+' else '(?:.*/)?'}(?P<{group}>{one}){end}{tail}" for end in sorted(ends) for one in inner
        ]
        texts += [rf"0*(?P<image_id>\d+)(?:\.0)?{tail}"] if joined else []
    for text in texts:
        reads = [(found := re.fullmatch(text, value)) and found[group] == one for value, one in values.items()]
        if sum(map(bool, reads)) >= ENOUGH * len(reads):
            return "" if text == texts[0] else text
    return None


def read(contents: Contents, form: Form, known: dict[str, str], ask: Asker) -> Plan:
    """Plan for a table."""
    rle, wide = not form.mask_files, len(form.masks) > 1
    annotations = _reading(form, ask)
    columns = annotations["columns"]
    reading = {key: annotations[key] for key in ("patterns", "no_mask_values", "rle_starts") if key in annotations}
    rows = read_form(form.table.rows, mask_format=annotations["mask_format"], columns=columns, only_class="", **reading)
    rows = rows[rows["image_id"].isin(list(form.file_of))]
    filled = rows[rows["mask"].fillna("") != ""]
    mask_id = _below(form.mask_files)
    paths = {mask_id(file): contents.root / file for file in form.mask_files}
    filled = filled if rle else filled[filled["mask"].isin(list(paths))]
    annotated = frozenset(rows["image_id"])
    if not rle and columns["class"] is None and not wide and not filled.duplicated("image_id").any():
        indexed = {"mask_format": "indexed", "columns": {key: columns[key] for key in ("image_id", "mask")}}
        classes = from_pixels([paths[one] for one in filled["mask"]], known, ask, alone="foreground")
        return _plan(contents, form, annotations | indexed, classes, annotated, ask)
    if rle:
        runs = _runs(contents, form, _sampled(filled))
        documented = 1 if form.images is None else 0 if "rle_starts" in annotations else None
        order, first = declare([(contents.root / path, *rest) for path, *rest in runs], documented, ask)
        annotations |= {"rle_order": order, "rle_first": first}
    annotations["multiple_masks"] = _several(filled, ask)
    stacks = _run_stacks(runs, order, first) if rle else _file_stacks(_sampled(filled), paths)
    classes = task_of(_class_values(columns, rows, known, ask), stacks, ask, files=list(paths.values()))
    if (unstated := len({*form.file_of} - annotated)) and annotated:
        share = f"{unstated} of {len(form.file_of)} images have no row"
        options = {"drop": "not annotated, so they are dropped", "empty": "they show no class"}
        rest = ask.choose("images_without_row", f"{share}. What are they?", options, "drop")
        hint = "; if they show no class, add --images-without-row empty" if rest == "drop" else ""
        ask.decide(f"{share}: {options[rest]} (`images_without_row: {rest}`){hint}")
        annotations["images_without_row"] = rest
    return _plan(contents, form, annotations, classes, annotated, ask)


def _reading(form: Form, ask: Asker) -> dict[str, Any]:
    """`annotations` as far as they say how the table is read."""
    table, rle, wide = form.table.rows, not form.mask_files, len(form.masks) > 1
    class_ = None if wide else "class" if form.joined else _class_column(form, ask)
    mask = [
        next(iter(re.compile(form.patterns[one]).groupindex)) if one in form.patterns else one for one in form.masks
    ]
    image = "image_id" if form.image in form.patterns else form.image
    named = "the end of it classes" if form.joined else f"{class_ or 'no column'} classes"
    ask.decide(
        f"{form.table.file}: {form.image} names images, {', '.join(form.masks)} "
        f"{'holds run lengths' if rle else 'names mask files'}, {'each of them a class' if wide else named}"
    )
    found: dict[str, Any] = {
        "mask_format": "rle" if rle else "files",
        "columns": {"image_id": image, "class": class_, "mask": mask if wide else mask[0]},
    }
    if form.patterns:
        ask.decide(f"patterns take the names from the columns {', '.join(form.patterns)}")
        found["patterns"] = form.patterns
    nothing = sorted({one for name in form.masks for one in table[name].dropna().unique() if one.lower() in MARKERS})
    nothing += [""] if not rle and wide and table[form.masks].isna().to_numpy().any() else []
    if nothing:
        ask.decide(f"no mask is written as {', '.join(one or 'an empty cell' for one in nothing)}")
        found["no_mask_values"] = nothing
    return found | ({"rle_starts": "relative"} if rle and _relative(table, form, ask) else {})


def _class_values(columns: dict[str, Any], rows: pd.DataFrame, known: dict[str, str], ask: Asker) -> dict[str, Value]:
    """Value in the table by class name."""
    if not isinstance(columns["mask"], str):
        extra = r"(^|_)(masks?|rle|seg|path|file|encoded|pixels)(?=_|$)"
        names = {one: re.sub(extra, "", one, flags=re.IGNORECASE).strip("_ ") or one for one in columns["mask"]}
        return {text_name(name, known): value for value, name in names.items()}
    if columns["class"] is None:
        name = ask.words("class_name", "What do the masks show?", "foreground")
        ask.decide(f"class: {name}, of every row (name it with --class-name)")
        return {name: name}
    values = sorted(rows["class"].dropna().unique(), key=lambda one: (len(one) if one.isdigit() else 9, one))
    return {text_name(value, known): value for value in values}


def _class_column(form: Form, ask: Asker) -> str | None:
    """The column of classes, if one is called so or the user names one."""
    table = form.table.rows
    rest = [
        name
        for name in form.table.columns
        if name not in (form.image, *form.masks) and 0 < table[name].nunique() <= 300
    ]
    ranks = {name: _rank(name) for name in rest}
    best = min(rest, key=lambda name: ranks[name], default=None)
    proposal = best if best is not None and ranks[best] < len(CLASS_WORDS) else "none"
    options = {**{name: f"holds {', '.join(table[name].dropna().unique()[:3])}" for name in rest},
               "none": "all rows are of one class"}  # fmt: skip
    chosen = ask.choose("class_column", "Which column names the class?", options, proposal)
    if chosen == "none" and rest:
        told = f"no column is called class, label or the like; one of {', '.join(rest)} may be (--class-column)"
        ask.decide(told)
    return None if chosen == "none" else chosen


def _rank(name: str) -> int:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    fits = (
        at
        for at, word in enumerate(CLASS_WORDS)
        if re.search(rf"(^|_| )({word})(s|es|y|ies)?($|_?(id|name|ids|names)$)", words)
    )
    return next(fits, len(CLASS_WORDS))


def _relative(table: pd.DataFrame, form: Form, ask: Asker) -> bool:
    """Whether starts count from the end of the run before: they are unsorted in many rows."""
    texts = [one for name in form.masks for one in evenly(table[name].dropna().tolist(), 1000) if RUNS.fullmatch(one)]
    starts = [np.array(text.split()[::2], dtype=np.int64) for text in texts if len(text.split()) > 2]
    unsorted = sum(bool((np.diff(one) <= 0).any()) for one in starts)
    if not starts or unsorted < len(starts) / 5:
        return False
    options = {"relative": "each counts from the end of the run before", "absolute": "each counts from the first pixel"}
    chosen = ask.choose("rle_starts", "What do the starts of runs count from?", options, "relative")
    ask.decide(f"run lengths are {chosen}: starts are unsorted in {unsorted} of {len(starts)} masks")
    return chosen == "relative"


def _sampled(rows: pd.DataFrame) -> pd.DataFrame:
    """All rows of some images, those with several masks first."""
    number = rows["image_id"].value_counts()
    images = evenly(list(number[number == number.max()].index) + list(number[number < number.max()].index)[:SAMPLED])
    return rows[rows["image_id"].isin(images)]


def _runs(contents: Contents, form: Form, rows: pd.DataFrame) -> list[tuple]:
    """Image file, its size, class and run lengths of each mask."""
    shapes = {image: read_size(contents.root / form.file_of[image]) for image in rows["image_id"].unique()}
    columns = rows[["image_id", "class", "mask"]].itertuples(index=False)
    return [(form.file_of[image], shapes[image], name, text) for image, name, text in columns]


def _run_stacks(runs: list[tuple], order: Order, first: int) -> Iterator[list[np.ndarray]]:
    of_image: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for path, shape, name, text in runs:
        if (mask := decoded(text, shape, order, first)) is not None:
            of_image[path][name] = mask | of_image[path].get(name, False)
    return iter([list(masks.values()) for masks in of_image.values()])


def _file_stacks(rows: pd.DataFrame, path_of: dict) -> Iterator[list[np.ndarray]]:
    for _, of_image in list(rows.groupby("image_id"))[:40]:
        yield [np.any([grey_mask(path_of[mask]) for mask in group], axis=0)
               for _, group in of_image.groupby("class")["mask"]]  # fmt: skip


def _several(rows: pd.DataFrame, ask: Asker) -> str:
    """Whether several masks of a class in an image contradict each other."""
    twice = rows.drop_duplicates(["image_id", "class", "mask"]).duplicated(["image_id", "class"])
    if not twice.any():
        return "refuse"
    ask.decide(f"{int(twice.sum())} rows name a class of their image again: an object each (`instances`; "
               "if they are parts of one mask, write `merge`)")  # fmt: skip
    return "instances"


def _plan(contents: Contents, form: Form, annotations: dict, classes: Any, annotated: frozenset, ask: Asker) -> Plan:
    masks: Entry = NO_MASK_FILES
    if form.mask_files:
        folder = common_folder(form.mask_files)
        glob = glob_of(form.mask_files, folder, sorted({*contents.pictures} - {*form.mask_files}))
        masks = file_index(folder, glob, f"(?P<mask_id>.+){endings_of(form.mask_files)}")
    catalog = {"raw_metadata": form.table.entry, "image_files": _image_entry(contents, form, ask), "mask_files": masks}
    used = [contents.root / form.file_of[one] for one in sorted(annotated)]
    return Plan(contents.root, catalog, classes, annotations, used, annotated=annotated)


def _image_entry(contents: Contents, form: Form, ask: Asker) -> Entry:
    if form.images is not None:
        return form.images.entry(ask, contents.pictures)
    ask.decide("images: named as the UW-Madison data; the case is the group, case and day the series")
    files = sorted(form.file_of.values())
    found = SCAN.search(files[0])
    assert found
    folder = files[0][: found.start()].rstrip("/")
    return file_index(folder, "**/*", SCAN.pattern + endings_of(files), image_id="{series}_slice_{slice}")
