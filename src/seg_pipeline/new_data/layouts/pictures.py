"""Layouts with image files and mask files: match masks to images, classes and objects by name."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from seg_pipeline.new_data import names as naming
from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.classes import evenly, from_pixels, grey_mask, task_of, text_name
from seg_pipeline.new_data.plan import Classes, Entry, Plan, file_index
from seg_pipeline.new_data.scanning import (
    MASK_WORD,
    SPLIT_WORD,
    SPLIT_WORDS,
    Contents,
    base,
    below,
    common_end,
    common_folder,
    endings_of,
    glob_of,
    key_parts,
    literal,
    stem,
)
from seg_pipeline.segmentation.images.listing import composed

ENOUGH = 0.9
"""Share of the masks whose image must be found."""
GENERIC = {"indexed", "binary", "png", "id", "ids", "class", "object", "all", *SPLIT_WORDS}
"""Words in the name of a folder of masks that are no class."""
SPLIT_START = re.compile(f"^(?:{SPLIT_WORD})", re.IGNORECASE)
NUMBERED_CLASS = re.compile(r"[_\-. ]*([A-Za-z]\w*?)[_\-. ]*\d+")


@dataclass(frozen=True)
class Images:
    """Image files, and how their ids are made of their names.

    ``by``: "stem" of the file, its whole "path", its "name" with extension, or its "number" without leading zeros.
    """

    files: list[str]
    by: str = "stem"

    @cached_property
    def folder(self) -> str:
        return common_folder(self.files)

    def id_of(self, file: str) -> str:
        path = below([file], self.folder)[0]
        if self.by == "number" and (found := re.search(r"\d+$", base(path))):
            return str(int(found[0]))
        ids = {"path": stem(path), "name": composed(path.rsplit("/", 1)[-1])}
        return (ids.get(self.by) or base(path)).strip()

    @cached_property
    def clashes(self) -> list[str]:
        """Ids of several files."""
        return [name for name, number in Counter(map(self.id_of, self.files)).items() if number > 1]

    def entry(self, ask: Asker, others: list[str]) -> Entry:
        """Catalog entry; its glob should not match ``others``."""
        if self.by == "number":
            ask.decide(f"images: {len(self.files)} in {self.folder or '.'}; ids are numbers without leading zeros")
            glob = glob_of(self.files, self.folder, sorted({*others} - {*self.files}))
            return file_index(self.folder, glob, rf"(?:.+/)?[^/]*?0*(?P<image_id>\d+){endings_of(self.files)}")
        entry = index_of(self.files, self.folder, ask, whole=self.by == "path", others=others)
        ending = endings_of(self.files)
        if self.by == "name":
            entry["pattern"] = entry["pattern"].removesuffix(f"){ending}") + ending + ")"
        return entry


def images_by_name(files: list[str]) -> Images:
    """Images with the shortest ids that tell most of them apart."""
    ways = [Images(files, by) for by in ("stem", "path", "name")]
    return next((one for one in ways if len(one.clashes) <= len(files) * (1 - ENOUGH)), ways[1])


def index_of(files: list[str], folder: str, ask: Asker, *, whole: bool, others: list[str]) -> Entry:
    """Catalog entry for image files with the group that the user wants; its glob should not match ``others``."""
    paths = [stem(file) for file in below(files, folder)]
    proposed = naming.propose(paths, group=ask.given.get("group") or "auto", whole=whole)
    if ask.interactive and ask.given.get("group") is None:
        question = (
            "Which images belong together? All images of one patient, drive or video must be in the same split, or the "
            f"scores will be too good. The number says how many parts of a name such as {paths[0]} they share."
        )
        options, key = naming.choices(paths, proposed, whole=whole)
        if (answer := ask.choose("group", question, options, key)) != key:
            proposed = naming.propose(paths, group=answer, whole=whole)
    ask.decide(f"images: {len(files)} in {folder or '.'}; {proposed.about}")
    rest = sorted({*others} - {*files})
    pattern = proposed.pattern + endings_of(files)
    near = below([one for one in rest if not folder or one.startswith(f"{folder}/")], folder)
    own, strange = ({one.split("/")[0] for one in some if "/" in one} for some in (below(files, folder), near))
    similar = any(re.fullmatch(pattern, composed(one)) for one in near) and not own & strange
    before = f"(?=(?:{_either(own)})/)" if similar and len(own) > 1 else ""  # train, val: not also trainannot, valannot
    return file_index(folder, glob_of(files, folder, rest), before + pattern)


@dataclass(frozen=True)
class Matched:
    """How the paths of masks, without extensions, name their images."""

    masks: list[str]
    pattern: str
    """With the group mask_id and, if the paths give it, class_id; image_id is a group or comes from ``columns``."""
    columns: dict[str, str]
    images: list[str]
    """Image id of each mask."""
    classes: list[str] | None
    """Class of each mask, if the paths give it."""

    @property
    def several(self) -> bool:
        """An image has several masks of one class: each is one object."""
        return max(Counter(zip(self.images, self.classes or self.images, strict=True)).values()) > 1


def match(masks: list[str], images: Images) -> Matched | str:
    """How ``masks`` name ``images``, or why they do not. Tries the parts of the paths from the last one."""
    known = _by_key(images.files)
    best: dict[str, tuple[str, str]] = {}
    for place in range(-1, -1 - min(mask.count("/") + 1 for mask in masks), -1):
        found = {mask: one for mask in masks if (one := _owner(mask.split("/"), place, known)) is not None}
        if sum(bool(file) for _, file in found.values()) >= ENOUGH * len(masks):
            kept = {mask: one for mask, one in found.items() if one[1]}
            if (matched := _described(kept, place, images, len(masks))) is not None:
                return matched
        best = max(best, found, key=len)
    if unclear := [mask for mask, (_, file) in best.items() if not file]:
        mask = unclear[0]
        clash = [file for _, file in known[best[mask][0]]][:2]
        return (
            f"{len(unclear)} of {len(masks)} masks, such as {mask}, fit several images ({', '.join(clash)}); give the "
            "images different names, or move one of each pair away"
        )
    strange = [mask for mask in masks if mask not in best]
    named = ", ".join(base(file) for file in images.files[:2])
    return (
        f"{len(strange) or len(masks)} of {len(masks)} masks, such as {(strange or masks)[0]}, have no image of their "
        f"name; the {len(images.files)} images are called {named}, ..."
    )


def _by_key(files: list[str]) -> dict[str, list[tuple[set[str], str]]]:
    """Images, each with the other parts of its path, by the names that a mask may repeat."""
    known: dict[str, list[tuple[set[str], str]]] = defaultdict(list)
    names = [base(file) for file in files]
    end = common_end(names)  # such as _training
    start = common_end([name[::-1] for name in names])[::-1]  # such as frame_
    for file in files:
        parts = key_parts(stem(file)) or [base(file)]
        for name in {parts[-1], base(file), base(file).removesuffix(end), base(file).removeprefix(start),
                     composed(file.rsplit("/", 1)[-1])}:  # fmt: skip
            known[name].append(({*parts, *file.split("/")[:-1]}, file))
    return known


def _owner(parts: list[str], place: int, known: dict[str, list[tuple[set[str], str]]]) -> tuple[str, str] | None:
    """The name of its image that a mask's path repeats, and the image's file ("" if several fit)."""
    there = {*parts, *key_parts("/".join(parts))}
    for text in (parts[place], *key_parts(parts[place])[:1]):
        for end in (len(text), *(at for at in range(len(text) - 1, 0, -1) if not text[at].isalnum())):
            if fitting := known.get(text[:end]):
                scores = [(len(others & there), -len(others - there)) for others, _ in fitting]
                first = max(scores)
                return text[:end], fitting[scores.index(first)][1] if scores.count(first) == 1 else ""
    return None


def _described(found: dict[str, tuple[str, str]], place: int, images: Images, total: int) -> Matched | None:
    """Pattern, and template of image_id, with which at least ``ENOUGH`` of the masks give their image's id."""
    masks, ids = list(found), [images.id_of(file) for _, file in found.values()]
    rows = [mask.split("/") for mask in masks]
    prefix = "" if len({len(row) for row in rows}) == 1 else "(?:.+/)?"
    if prefix:
        rows, place = [row[place:] for row in rows], 0
    id_rows = [one.split("/") for one in ids]
    if len({len(row) for row in id_rows}) > 1:
        return None
    pieces, template = _pieces(rows, id_rows, [head for head, _ in found.values()], place % len(rows[0]))
    if template is None:
        return None
    above = [[*file.split("/")[:-1], *key_parts(stem(file))] for _, file in found.values()]
    texts, classes = _parts(rows, pieces, ids, above)
    direct = template == "{f0}"
    for shape in ("[^/]+", "[^/]+?"):
        named = [text.replace("(?P<f0>", "(?P<image_id>") if direct else text for text in texts]
        pattern = f"(?P<mask_id>{prefix}{'/'.join(named).replace('PIECE', shape)})"
        reads = [
            one is not None and (one["image_id"] if direct else template.format(**one.groupdict())) == image
            for one, image in zip((re.fullmatch(pattern, mask) for mask in masks), ids, strict=True)
        ]
        if sum(reads) >= ENOUGH * total:
            return Matched(masks, pattern, {} if direct else {"image_id": template}, ids, classes)
    return None


def _pieces(
    rows: list[list[str]], id_rows: list[list[str]], heads: list[str], place: int
) -> tuple[dict[int, tuple[str, list[str]]], str | None]:
    """Group and texts of the parts of the masks' paths that vary with the ids, and the template of the ids."""
    pieces: dict[int, tuple[str, list[str]]] = {}
    columns = list(zip(*id_rows, strict=True))
    template = [column[0].replace("{", "{{").replace("}", "}}") for column in columns]
    varying = [at for at, column in enumerate(columns) if len(set(column)) > 1] or [len(columns) - 1]
    for at in varying:
        cleaned = [(key_parts(text) or [text])[0] for text in columns[at]]
        near = sorted(set(range(len(rows[0]))) - pieces.keys(), key=lambda p: (p == place) != (at == varying[-1]))
        for own, where in product((heads, cleaned, columns[at]), near):
            frames = {text.replace(one, "\0", 1) for text, one in zip(columns[at], own, strict=True)}
            found = all(one in row[where] for one, row in zip(own, rows, strict=True))
            if found and len(frames) == 1 and "\0" in (frame := frames.pop()):
                group = f"f{len(pieces)}"
                pieces[where] = (group, list(own))
                template[at] = frame.replace("{", "{{").replace("}", "}}").replace("\0", f"{{{group}}}")
                break
        else:
            return {}, None
    return pieces, "/".join(template)


def _parts(
    rows: list[list[str]], pieces: dict[int, tuple[str, list[str]]], ids: list[str], above: list[list[str]]
) -> tuple[list[str], list[str] | None]:
    """Pattern of each part of the paths, with PIECE for that of a group, and the classes that they name.

    ``above``: the names of the folders and of the image itself; a part that repeats one is no class.
    """
    patterns, classes = [], None
    for at in range(len(rows[0])):
        texts, before = [row[at] for row in rows], ""
        if at in pieces:
            group, own = pieces[at]
            cut = [text.split(one, 1) for text, one in zip(texts, own, strict=True)]
            heads, texts = {head for head, _ in cut}, [tail for _, tail in cut]
            before = (literal(heads.pop()) if len(heads) == 1 else "[^/]*?") + f"(?P<{group}>PIECE)"
        repeats = all((key_parts(one) or [one])[0] in own for one, own in zip(texts, above, strict=True))
        pattern, found = _element(texts, ids, free=at not in pieces, taken=repeats or classes is not None)
        classes = found or classes
        patterns.append(before + pattern)
    return patterns, classes


def _element(texts: list[str], images: list[str], *, free: bool, taken: bool) -> tuple[str, list[str] | None]:
    """Pattern of one part besides the image id, and the class that it names."""
    if {(key_parts(text) or [text])[0].lower() for text in texts} <= SPLIT_WORDS.keys() or (
        free and len({SPLIT_START.sub("", text) for text in texts}) == 1 < len(set(texts))  # trainannot, valannot
    ):
        return "[^/]+", None
    shortest = literal(min(texts, key=len))
    counted = rf"{shortest}(?:[_\-. ]*\d+)?"  # such as a_mask.png, a_mask_1.png
    if len(set(texts)) == 1 or (MASK_WORD.search(shortest) and all(re.fullmatch(counted, text) for text in texts)):
        return shortest if len(set(texts)) == 1 else counted, None
    joint = "" if free else r"[_\-. ]+"
    numbered = [NUMBERED_CLASS.fullmatch(text) for text in texts]
    if not taken and all(numbered) and len(heads := {one[1] for one in numbered if one}) <= len(set(images)):
        return rf"{joint}(?P<class_id>{_either(heads)})[_\-. ]*\d+", [one[1] for one in numbered if one]
    bare = [text.strip("_-. ") for text in texts]
    several = max(Counter(bare).values()) > 1
    repeated = len(set(bare)) <= min(300, max(1, len(set(images)) // 2)) and several
    if len(texts) == len(set(images)) * len(set(bare)) and not "".join(bare).isdigit():  # all classes of each image
        repeated = several
    once = max(Counter(zip(images, bare, strict=True)).values()) == 1 or free
    if not taken and repeated and once and not _counts_objects(bare, images):
        return rf"{joint}(?P<class_id>{_either(set(bare))})", bare
    if free:
        return "[^/]+", None
    ends = [r"[_\-. ]+\d+", r"[_\-. ]+[^/_\-. ]+"]
    return next((end for end in ends if all(re.fullmatch(end, text) for text in texts)), "[^/]*"), None


def _either(texts: set[str]) -> str:
    """Alternatives, longest first, so that none hides a longer one that starts with it."""
    return "|".join(map(literal, sorted(texts, key=lambda one: (-len(one), one))))


def _counts_objects(texts: list[str], images: list[str]) -> bool:
    """Whether the texts are numbers that restart in each image and count its objects."""
    if not all(text.isdigit() for text in texts):
        return False
    of_image = defaultdict(list)
    for image, text in zip(images, texts, strict=True):
        of_image[image].append(int(text))
    consecutive = all(sorted(one) == list(range(min(one), min(one) + len(one))) for one in of_image.values())
    return consecutive and len({len(one) for one in of_image.values()}) > 1


def read(contents: Contents, masks: list[str], known: dict[str, str], ask: Asker) -> Plan | str:
    """Plan for images and masks with matching names, or why they do not match."""
    images = images_by_name(contents.images)
    root = common_folder(masks)
    path_of = {stem(name): contents.root / file for name, file in zip(below(masks, root), masks, strict=True)}
    found = match(list(path_of), images)
    if isinstance(found, str):
        return found
    if images.clashes:
        twins = [file for file in images.files if images.id_of(file) == images.clashes[0]]
        many = "names are" if images.clashes[1:] else "name is"
        ask.decide(f"{len(images.clashes)} {many} of several images, such as {', '.join(twins)}: none of them is used")
    files = [path_of[mask] for mask in found.masks]
    index = file_index(root, glob_of(masks, root, sorted({*contents.pictures} - {*masks})), "")
    annotations, classes = _meaning(found, files, known, ask, alone=_alone(root, contents.images))
    catalog = {
        "raw_metadata": {**index, "pattern": found.pattern + endings_of(masks),
                         **({"columns": found.columns} if found.columns else {})},
        "image_files": images.entry(ask, contents.pictures),
        "mask_files": {**index, "pattern": f"(?P<mask_id>.+){endings_of(masks)}"},
    }  # fmt: skip
    used = [contents.root / file for file in contents.images]
    return Plan(contents.root, catalog, classes, annotations, used, annotated=frozenset(found.images))


def _alone(folder: str, images: list[str]) -> str:
    """Name of the only class: that of its folder, unless the name is general or also that of images."""
    name = (key_parts(folder.rsplit("/", 1)[-1]) or [""])[0]
    general = name.lower() in GENERIC or name in images[0].rpartition("/")[0]
    return "foreground" if general or re.fullmatch(r"(\d+\w{0,2})?", name) else name  # such as 1st_manual


def _meaning(
    found: Matched, files: list[Path], known: dict[str, str], ask: Asker, *, alone: str
) -> tuple[dict[str, Any], Classes]:
    """The parameters `annotations` and the classes."""
    if found.classes is None and not found.several:
        ask.decide("masks: one per image; each pixel holds a number")
        columns: dict[str, Any] = {"image_id": "image_id", "mask": "mask_id"}
        return {"mask_format": "indexed", "columns": columns}, from_pixels(files, known, ask, alone=alone)
    columns = {"image_id": "image_id", "class": "class_id" if found.classes else None, "mask": "mask_id"}
    annotations: dict[str, Any] = {"mask_format": "files", "columns": columns}
    if found.several:
        annotations |= {"multiple_masks": "instances", "images_without_row": "empty"}
    values = sorted(set(found.classes or ["object"]))
    classes = {text_name((key_parts(value) or [value])[0], known): value for value in values}
    what = "one file per object" if found.several else "one file per image and class"
    ask.decide(f"masks: {what}; classes from the file names: {', '.join(classes)}")
    return annotations, task_of(dict(classes), _stacks(found, files), ask, files=files)


def _stacks(found: Matched, files: list[Path]) -> Iterator[list[np.ndarray]]:
    """Bool masks per class of a sample of images."""
    of_image: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for image, name, path in zip(found.images, found.classes or found.images, files, strict=True):
        of_image[image][name].append(path)
    for paths in evenly(list(of_image.values()), 40):
        with suppress(ValueError):  # data_processing reports a damaged mask, or one of another size
            yield [np.any([grey_mask(path) for path in group], axis=0) for group in paths.values()]
