"""List the images, tables, JSON files and volumes in a folder, and tell masks from images by name."""

import glob
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from seg_pipeline.segmentation.formats.json_files import read_json
from seg_pipeline.segmentation.images.listing import PICTURES, composed

ENDINGS = {
    "pictures": PICTURES,
    "tables": (".csv", ".tsv", ".parquet", ".xlsx", ".jsonl"),
    "jsons": (".json",),
    "volumes": (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"),
}
MASK_WORD = re.compile(
    r"(?:^|[_\-. ])(masks?|labels?(?:tr)?|labelled|manual\d?|annot\w*?|gt(?:fine|coarse)?|(?:ground[_ ]?)?truth|"
    r"seg(?:m[a-z]*)?|targets?|(?:label|instance)(?:train)?ids)(?=$|[_\-. ])",
    re.IGNORECASE,
)
IMAGE_WORD = re.compile(
    r"(?:^|[_\-. ])(images?|imgs?|scans?|jpegimages|photos?|imagestr|pictures?)(?=$|[_\-. ])", re.IGNORECASE
)
KINDS = {
    "indexed",
    "binary",
    "instance",
    "instances",
    "semantic",
    "panoptic",
    "color",
    "colour",
    "rgb",
    "vis",
    "human",
    "machine",
}
"""What sets apart folders of masks of the same images."""
FILE_KIND = re.compile(
    rf"[_\-. ]((?:label|instance)(?:train)?ids|{'|'.join(sorted(KINDS, key=len, reverse=True))})$", re.IGNORECASE
)
"""What sets apart several masks of an image in one folder, such as those of Cityscapes."""
LESS_WANTED = (
    {"labeltrainids"},
    {"instance", "instances", "instanceids", "instancetrainids"},
    {"panoptic"},
    {"color", "colour", "rgb", "vis", "human"},
)
"""Kinds of masks that are not proposed beside one that holds a class per value, the worst last."""
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

SPLIT_WORD = "|".join(sorted(SPLIT_WORDS, key=len, reverse=True))
"""Regular expression, the longest word first."""


@dataclass(frozen=True)
class Contents:
    """Sorted paths below ``root``, with forward slashes."""

    root: Path
    pictures: list[str]
    tables: list[str]
    jsons: list[str]
    volumes: list[str]
    others: list[str] = field(default_factory=list)
    masks_by_pixels: dict[str, list[str]] = field(default_factory=dict)
    """Masks by their folder, if no name says which files are masks; see ``mask_pixels``."""

    @cached_property
    def masks(self) -> dict[str, list[str]]:
        """Image files that are named as masks, by the word that says so."""
        return self.masks_by_pixels or by_word(self.pictures)

    @cached_property
    def images(self) -> list[str]:
        """The other image files, limited to folders named as images if there are any."""
        masks = {file for files in self.masks_by_pixels.values() for file in files}
        return images_of([file for file in self.pictures if file not in masks])

    def content(self, file: str) -> Any:
        """Content of a JSON file; None if it is not valid."""
        try:
            return read_json(self.root / file)
        except ValueError:
            return None


def scan(root: Path) -> Contents:
    """List the files below ``root``; hidden files are skipped and linked folders followed once.

    Raises:
        ValueError: the folder does not exist.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; give the folder that holds your data")
    found: dict[str, list[str]] = {kind: [] for kind in (*ENDINGS, "others")}
    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else sorted(one for one in below if not one.startswith((".", "__MACOSX")))
        for name in names if real not in seen else ():
            if not name.startswith("."):
                kind = next((kind for kind, ends in ENDINGS.items() if name.lower().endswith(ends)), "others")
                found[kind].append((Path(folder) / name).relative_to(root).as_posix())
        seen.add(real)
    pictures, tables, jsons, volumes, others = map(sorted, found.values())
    return Contents(root, pictures, tables, jsons, volumes, others)


def ending(file: str) -> str:
    """The file extension with its dot; ".nii.gz" counts as one."""
    found = re.search(r"(\.nii\.gz|\.[^./]+)$", file, flags=re.IGNORECASE)
    return found[0] if found else ""


def stem(file: str) -> str:
    """The path without its file extension, ``composed``."""
    return composed(file.removesuffix(ending(file)))


def base(file: str) -> str:
    """The file's name without folders and extension."""
    return stem(file).rsplit("/", 1)[-1]


def mask_folder(file: str) -> str | None:
    """The word in a folder that marks the file as a mask, "" if its own name does, None if it is not a mask.

    Of a folder of one of ``KINDS``, such as indexed_masks, it is the whole name, and of a file of such a kind its end.
    """
    *folders, _ = file.split("/")
    named, kind = MASK_WORD.search(base(file)), FILE_KIND.search(base(file))
    for name in reversed(folders):
        if found := MASK_WORD.search(name):
            if kind:
                break
            return name if KINDS & {*map(str.lower, key_parts(name))} else found[1].lower()
    else:
        if not named:
            return None
    return f"files ending in {kind[0]}" if kind else ""


def by_word(files: list[str]) -> dict[str, list[str]]:
    """Masks by the word in the name of their folder, the most certain first; of equals, that with the fewest files."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if (name := mask_folder(file)) is not None:
            groups[name].append(file)
    if len(groups) > 1 and sum(map(len, groups.values())) == len(files):
        groups.pop("", None)  # images whose own names hold such a word
    return dict(sorted(groups.items(), key=lambda item: (rank(item[0]), len(item[1]), item[0])))


def rank(word: str) -> int:
    words = {*re.split("[^a-z]+", word.lower())}
    return max((rank for rank, kinds in enumerate(LESS_WANTED, start=1) if kinds & words), default=0)


def images_of(files: list[str]) -> list[str]:
    """Files that are not named as masks, limited to folders named as images if there are any."""
    others = [file for file in files if mask_folder(file) is None] or [file for file in files if not mask_folder(file)]
    named = [file for file in others if any(map(IMAGE_WORD.search, file.split("/")[:-1]))]
    return named or others


def key_parts(path: str) -> list[str]:
    """Parts of a path without extension that are left without the words for images and masks."""
    cleaned = [IMAGE_WORD.sub("", MASK_WORD.sub("", part)).strip("_-. ") for part in path.split("/")]
    return [part for part in cleaned if part]


def common_folder(files: list[str]) -> str:
    """The deepest folder that contains all files; "" for the root."""
    folders = {file.rpartition("/")[0] for file in files}
    return os.path.commonpath(folders) if folders else ""


def below(files: list[str], folder: str) -> list[str]:
    """Paths relative to ``folder``."""
    return [file[len(folder) + 1 :] if folder else file for file in files]


def endings_of(files: list[str]) -> str:
    """Regular expression for the file extensions that occur: ``\\.png`` or ``\\.(?:jpg|png)``."""
    found = sorted({ending(file)[1:] for file in files})
    return r"\." + (re.escape(found[0]) if len(found) == 1 else f"(?:{'|'.join(map(re.escape, found))})")


def literal(text: str) -> str:
    """Regular expression for the text itself."""
    return re.escape(text).replace(r"\-", "-").replace(r"\ ", " ")


def common_end(texts: list[str]) -> str:
    """The longest common ending of several different texts that starts at a separator; "" if there is none."""
    shared = os.path.commonprefix([text[::-1] for text in texts])[::-1]  # noqa: RUF071  letters are meant
    start = re.search(r"[_\-. ]", shared)
    return shared[start.start() :] if start and len(set(texts)) > 1 else ""


def glob_of(files: list[str], folder: str, others: list[str]) -> str:
    """The widest glob below ``folder`` that matches all ``files`` and, if possible, none of ``others``."""
    wanted, rest = below(files, folder), below([one for one in others if one.startswith(folder)], folder)
    ends = {*map(ending, wanted)}
    end = glob.escape(ends.pop()) if len(ends) == 1 else ".*"
    stems = [file.rsplit("/", 1)[-1].removesuffix(ending(file)) for file in wanted]  # as the disk has them
    last = {base(file)[-1:] for file in rest} - {one[-1:] for one in stems}
    tails = [f"*{end}", f"*{glob.escape(common_end(stems))}{end}", f"{glob.escape(stems[0])}{end}", f"*[0-9]{end}"]
    words = {found[0] if (found := MASK_WORD.search(one)) else "" for one in stems}
    tails += [f"*{glob.escape(*words)}*{end}"] if len(words) == 1 and all(words) else []  # such as *_mask*.png
    tails += [f"*[!{''.join(sorted(filter(str.isalnum, last)))}]{end}"] if any(map(str.isalnum, last)) else []
    fitting = [
        (head, tail)
        for head, tail in product(_heads(wanted, rest), tails)
        if all(_taken(file, head, tail) for file in wanted)
    ]
    return "".join(next((one for one in fitting if not any(_taken(file, *one) for file in rest)), fitting[0]))


def _heads(files: list[str], others: list[str]) -> list[str]:
    """Globs for the folders, the widest first: their names, ``*`` if names differ, ``**`` if depths differ."""
    rows = [file.split("/")[:-1] for file in files]
    if len({len(row) for row in rows}) > 1:
        return ["**/"]
    heads = [""]
    for at, names in enumerate(map(set, zip(*rows, strict=True))):
        ways = [glob.escape(min(names))]
        if len(names) > 1:
            start, end = os.path.commonprefix(sorted(names)), common_end(sorted(names))  # noqa: RUF071  letters are meant
            parts = [file.split("/") for file in others]
            last = {part[at][-1:] for part in parts if len(part) > at + 1} - {name[-1:] for name in names}
            shared = os.path.commonprefix([name[::-1] for name in names])[::-1]  # noqa: RUF071  such as annot
            ways = ["*", f"{glob.escape(start)}*{glob.escape(end)}", f"*{glob.escape(shared)}"]
            ways += [f"*[!{''.join(sorted(filter(str.isalnum, last)))}]"] if any(map(str.isalnum, last)) else []
        heads = [f"{head}{way}/" for head in heads for way in ways]
    return heads


def _taken(file: str, head: str, tail: str) -> bool:
    parts, wanted = file.split("/"), (head + tail).split("/")
    if head == "**/":
        return fnmatchcase(parts[-1], tail)
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
