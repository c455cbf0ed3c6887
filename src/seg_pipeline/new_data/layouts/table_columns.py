"""Find which columns of a table name images, and which hold or name their masks."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pandas as pd

from seg_pipeline.new_data.classes import evenly
from seg_pipeline.new_data.layouts.pictures import Images, images_by_name
from seg_pipeline.new_data.layouts.table_files import Table
from seg_pipeline.new_data.scanning import (
    MASK_WORD,
    Contents,
    below,
    common_folder,
    endings_of,
    mask_folder,
    stem,
)
from seg_pipeline.segmentation.images.listing import composed

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
    if data := [name for name in table.columns if RUNS.fullmatch(name) or first.get(name)]:
        return f"{said}: its first line holds data ({data[0]:.40}); put a line with the names of the columns before it"
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
    others = {one: found for one, found in others.items() if word.search(one) or rank_of(one) == len(CLASS_WORDS)}
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
        for path in (composed(file), stem(file)):
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
            pattern = _pattern(located[column], own.id_of if own.by == "path" else below_common(mask_files), column)
            if pattern is None:
                value, file = next(iter(located[column].items()))
                return (
                    f"{table.file}: the values of {column}, such as {value} for {file}, differ in how they name files"
                )
            patterns |= {column: pattern} if pattern else {}
    return Form(table, image, masks, way, {name(file): file for file in files if not scan or SCAN.search(stem(file))},
                mask_files, patterns)  # fmt: skip


def below_common(files: list[str]) -> Callable[[str], str]:
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


def rank_of(name: str) -> int:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().strip()
    fits = (
        at
        for at, word in enumerate(CLASS_WORDS)
        if re.search(rf"(^|_| )({word})(s|es|y|ies)?($|[_ ]?(id|name|ids|names)$)", words)
    )
    return next(fits, len(CLASS_WORDS))
