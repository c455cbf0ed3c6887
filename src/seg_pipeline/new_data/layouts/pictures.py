"""Layouts with image files and mask files: match masks to images, classes and objects by name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seg_pipeline.new_data import names as naming
from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.classes import evenly, from_pixels, task_of, text_name
from seg_pipeline.new_data.plan import Classes, Entry, Plan, file_index
from seg_pipeline.new_data.scanning import Contents, below, common_folder, endings_of, glob_of, stem
from seg_pipeline.segmentation.images.decoding import read_values
from seg_pipeline.segmentation.images.masks import binary_mask

ENOUGH = 0.9
"""Share of the masks whose image must be found."""
GENERIC = re.compile(r"(indexed|binary)?_?(masks?|labels?|annot\w*|gt|truth|ground_?truth|seg\w*|targets?)?", re.I)
NUMBERED_CLASS = re.compile(r"[_\-. ]*([A-Za-z]\w*?)[_\-. ]*\d+")


@dataclass(frozen=True)
class Matched:
    """How the paths of masks, without extensions, name their images."""

    masks: list[str]
    pattern: str
    """With the groups mask_id and image_id and, if the paths give it, class_id."""
    images: list[str]
    """Image of each mask."""
    classes: list[str] | None
    """Class of each mask, if the paths give it."""
    several: bool
    """An image has several masks of one class: each is one object."""


def match(masks: list[str], images: set[str]) -> Matched | None:
    """How ``masks`` name ``images``; None if too few do. Tries the whole path first, then its parts from the last."""
    depth = {len(mask.split("/")) for mask in masks}
    places = [None, *range(max(depth) - 1, -1, -1)] if len(depth) == 1 else [None]
    for place in places:
        texts = [mask if place is None else mask.split("/")[place] for mask in masks]
        found = [_longest(text, images, whole=place is None) for text in texts]
        if sum(one is not None for one in found) >= ENOUGH * len(masks):
            kept = {mask: one for mask, one in zip(masks, found, strict=True) if one is not None}
            return _describe(kept, place)
    return None


def _longest(text: str, images: set[str], *, whole: bool) -> str | None:
    """The longest image id that ``text`` starts with, up to a separator; for a whole path, within its last part."""
    least = text.rfind("/") if whole else 0
    ends = [len(text), *(at for at in range(len(text) - 1, least, -1) if not text[at].isalnum())]
    return next((text[:end] for end in ends if text[:end] in images), None)


def _describe(image_of: dict[str, str], place: int | None) -> Matched:
    """The pattern, part by part; the image id is followed by the rest of its part."""
    masks, images = list(image_of), list(image_of.values())
    parts = [[mask] if place is None else mask.split("/") for mask in masks]
    elements: list[str] = []
    classes: list[str] | None = None
    for at in range(len(parts[0])):
        own = at == (place or 0)
        texts = [row[at][len(image) if own else 0 :] for row, image in zip(parts, images, strict=True)]
        pattern, found = _element(texts, images, free=not own, taken=classes is not None)
        classes = found or classes
        elements.append(("(?P<image_id>" + (".+" if place is None else "[^/]+") + ")" if own else "") + pattern)
    keys = zip(images, classes or [""] * len(images), strict=True)
    several = max(Counter(keys).values()) > 1
    return Matched(masks, f"(?P<mask_id>{'/'.join(elements)})", images, classes, several)


def _element(texts: list[str], images: list[str], *, free: bool, taken: bool) -> tuple[str, list[str] | None]:
    """Pattern of one part besides the image id, and the class that it names."""
    if {text.lower() for text in texts} <= naming.SPLIT_WORDS:
        return "[^/]+", None
    if len(set(texts)) == 1:
        return re.escape(texts[0]).replace(r"\-", "-"), None
    joint = r"" if free else r"[_\-. ]+"
    heads = {match[1] for text in texts if (match := NUMBERED_CLASS.fullmatch(text))}
    if not taken and all(NUMBERED_CLASS.fullmatch(text) for text in texts) and len(heads) <= len(set(images)):
        found = [match[1] for text in texts if (match := NUMBERED_CLASS.fullmatch(text))]
        return (
            rf"{joint}(?P<class_id>{_either(heads)})[_\-. ]*\d+",
            found,
        )
    bare = [text.strip("_-. ") for text in texts]
    repeated = len(set(bare)) <= min(50, max(1, len(set(images)) // 2)) and max(Counter(bare).values()) > 1
    once = max(Counter(zip(images, bare, strict=True)).values()) == 1 or free
    if not taken and repeated and once and not _counts_objects(bare, images):
        return rf"{joint}(?P<class_id>{_either(set(bare))})", bare
    return "[^/]+" if free else "[^/]*", None


def _either(texts: set[str]) -> str:
    """Alternatives, longest first, so that none hides a longer one that starts with it."""
    return "|".join(re.escape(text).replace(r"\-", "-") for text in sorted(texts, key=lambda one: (-len(one), one)))


def _counts_objects(texts: list[str], images: list[str]) -> bool:
    """Whether the texts are numbers that restart in each image and count its objects."""
    if not all(text.isdigit() for text in texts):
        return False
    of_image: dict[str, list[int]] = {}
    for image, text in zip(images, texts, strict=True):
        of_image.setdefault(image, []).append(int(text))
    consecutive = all(sorted(one) == list(range(min(one), min(one) + len(one))) for one in of_image.values())
    return consecutive and len({len(one) for one in of_image.values()}) > 1


def image_ids(contents: Contents) -> tuple[str, list[str], bool]:
    """Common folder of the images, their relative paths without extensions, and whether file names repeat."""
    folder = common_folder(contents.images)
    paths = [stem(file) for file in below(contents.images, folder)]
    return folder, paths, len({path.rsplit("/", 1)[-1] for path in paths}) < len(paths)


def image_entry(contents: Contents, ask: Asker) -> Entry:
    """Catalog entry for the images, with a pattern for their names."""
    folder, _, whole = image_ids(contents)
    return index_of(contents.images, folder, ask, whole=whole, others=contents.pictures)


def index_of(files: list[str], folder: str, ask: Asker, *, whole: bool, others: list[str]) -> Entry:
    """Catalog entry for image files with the group that the user wants; its glob should not match ``others``."""
    paths = [stem(file) for file in below(files, folder)]
    proposed = naming.propose(paths, group=ask.given.get("group") or "auto", whole=whole)
    if ask.interactive and ask.given.get("group") is None:
        question = (
            f"{proposed.about}. Images of one patient or drive must stay in one split: are these groups right? "
            f"Answer yes, none, or how many parts of {paths[0]!r} name the group"
        )
        answer = ask.words("group", question, "yes")
        proposed = proposed if answer == "yes" else naming.propose(paths, group=answer, whole=whole)
    ask.decide(f"images: {len(files)} in {folder or '.'}; {proposed.about}")
    glob = glob_of(files, folder, sorted({*others} - {*files}))
    return file_index(folder, glob, proposed.pattern + endings_of(files))


def read(contents: Contents, masks: list[str], known: dict[str, str], ask: Asker) -> Plan | None:
    """Plan for images and masks with matching names; None if they do not match."""
    _, paths, whole = image_ids(contents)
    ids = {path if whole else path.rsplit("/", 1)[-1] for path in paths}
    mask_root = common_folder(masks)
    path_of = {stem(name): contents.root / file for name, file in zip(below(masks, mask_root), masks, strict=True)}
    found = match(list(path_of), ids)
    if found is None:
        return None
    files = [path_of[mask] for mask in found.masks]
    glob = glob_of(masks, mask_root, sorted({*contents.pictures} - {*masks}))
    ending = endings_of(masks)
    index = file_index(mask_root, glob, found.pattern + ending)
    annotations, classes = _meaning(found, files, known, ask, alone=_alone(mask_root))
    if found.several and found.classes is None:
        index = {**index, "columns": {"class_id": next(iter(classes.values))}}
    catalog = {
        "raw_metadata": index,
        "image_files": image_entry(contents, ask),
        "mask_files": file_index(mask_root, glob, f"(?P<mask_id>.+){ending}"),
    }
    return Plan(contents.root, catalog, classes, annotations, [contents.root / file for file in contents.images])


def _alone(folder: str) -> str:
    name = folder.rsplit("/", 1)[-1]
    return "foreground" if GENERIC.fullmatch(name) else name


def _meaning(
    found: Matched, files: list[Path], known: dict[str, str], ask: Asker, *, alone: str
) -> tuple[dict[str, Any], Classes]:
    """The parameters `annotations` and the classes."""
    if found.classes is None and not found.several:
        ask.decide("masks: one per image; pixel values are the classes")
        columns = {"image_id": "image_id", "mask": "mask_id"}
        return {"mask_format": "indexed", "columns": columns}, from_pixels(files, known, ask, alone=alone)
    columns = {"image_id": "image_id", "class": "class_id", "mask": "mask_id"}
    annotations: dict[str, Any] = {"mask_format": "files", "columns": columns}
    if found.several:
        annotations |= {"multiple_masks": "instances", "images_without_row": "empty"}
    values = sorted(set(found.classes or ["object"]))
    classes = {text_name(value, known): value for value in values}
    what = "one file per object" if found.several else "one file per image and class"
    ask.decide(f"masks: {what}; classes from the file names: {', '.join(classes)}")
    return annotations, task_of(dict(classes), _stacks(found, files), ask)


def _stacks(found: Matched, files: list[Path]) -> Iterator[list[np.ndarray]]:
    """Bool masks per class of a sample of images."""
    of_image: dict[str, dict[str, list[Path]]] = {}
    for image, name, path in zip(found.images, found.classes or found.images, files, strict=True):
        of_image.setdefault(image, {}).setdefault(name, []).append(path)
    for paths in evenly(list(of_image.values()), 40):
        masks = [[binary_mask(read_values(path)) for path in group] for group in paths.values()]
        yield [np.any(group, axis=0) for group in masks]
