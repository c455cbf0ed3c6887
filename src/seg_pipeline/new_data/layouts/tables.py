"""A table of run lengths, or of the names of mask files."""

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.classes import SAMPLED, evenly, from_pixels, grey_mask, task_of, text_name
from seg_pipeline.new_data.layouts.run_lengths import Order, declare, decoded
from seg_pipeline.new_data.layouts.table_columns import (
    CLASS_WORDS,
    MARKERS,
    RUNS,
    SCAN,
    Form,
    below_common,
    rank_of,
)
from seg_pipeline.new_data.plan import NO_MASK_FILES, Entry, Plan, Value, file_index
from seg_pipeline.new_data.scanning import Contents, common_folder, endings_of, glob_of
from seg_pipeline.segmentation.images.decoding import read_size
from seg_pipeline.segmentation.manifest.table_forms import read_form


def read(contents: Contents, form: Form, known: dict[str, str], ask: Asker) -> Plan:
    """Plan for a table."""
    rle, wide = not form.mask_files, len(form.masks) > 1
    annotations = _reading(form, ask)
    columns = annotations["columns"]
    reading = {key: annotations[key] for key in ("patterns", "no_mask_values", "rle_starts") if key in annotations}
    rows = read_form(form.table.rows, mask_format=annotations["mask_format"], columns=columns, only_class="", **reading)
    rows = rows[rows["image_id"].isin(list(form.file_of))]
    filled = rows[rows["mask"].fillna("") != ""]
    mask_id = below_common(form.mask_files)
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
        name = ask.words(
            "class_name", "No column names a class, so all masks are of one class. What do they show?", "foreground"
        )
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
    ranks = {name: rank_of(name) for name in rest}
    best = min(rest, key=lambda name: ranks[name], default=None)
    proposal = best if best is not None and ranks[best] < len(CLASS_WORDS) else "none"
    options = {**{name: f"holds {', '.join(map(str, table[name].dropna().unique()[:3]))}" for name in rest},
               "none": "all rows are of one class"}  # fmt: skip
    chosen = ask.choose("class_column", "Which column names the class?", options, proposal)
    if chosen == "none" and rest:
        told = f"no column is called class, label or the like; one of {', '.join(rest)} may be (--class-column)"
        ask.decide(told)
    return None if chosen == "none" else chosen


def _relative(table: pd.DataFrame, form: Form, ask: Asker) -> bool:
    """Whether starts count from the end of the run before: they are unsorted in many rows."""
    texts = [one for name in form.masks for one in evenly(table[name].dropna().tolist(), 1000) if RUNS.fullmatch(one)]
    starts = [np.array(text.split()[::2], dtype=np.int64) for text in texts if len(text.split()) > 2]
    unsorted = sum(bool((np.diff(one) <= 0).any()) for one in starts)
    if not starts or unsorted < len(starts) / 5:
        return False
    options = {"relative": "each counts from the end of the run before", "absolute": "each counts from the first pixel"}
    question = f"The starts of runs do not rise in {unsorted} of {len(starts)} masks. What do they count from?"
    chosen = ask.choose("rle_starts", question, options, "relative")
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
        with suppress(ValueError):  # data_processing reports a damaged mask, or one of another size
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
