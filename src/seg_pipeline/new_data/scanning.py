"""List the images, tables, JSON files and volumes in a folder, and tell masks from images by name."""

from __future__ import annotations

import glob
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

ENDINGS = {
    "pictures": (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
    "tables": (".csv",),
    "jsons": (".json",),
    "volumes": (".nii", ".nii.gz", ".nrrd", ".mha"),
}
MASK_WORD = re.compile(
    r"(?:^|[_\-. ])(masks?|labels?(?:tr)?|labelled|annot\w*|gt|(?:ground_?)?truth|seg(?:m\w*)?|targets?)(?:$|[_\-. ])"
)
IMAGE_WORD = re.compile(r"(?:^|[_\-. ])(images?|imgs?|scans?|jpegimages|photos?|imagestr)(?:$|[_\-. ])")


@dataclass(frozen=True)
class Contents:
    """Sorted paths below ``root``, with forward slashes."""

    root: Path
    pictures: list[str]
    tables: list[str]
    jsons: list[str]
    volumes: list[str]

    @property
    def masks(self) -> dict[str, list[str]]:
        """Image files that are named as masks, by the name of their folder ("" if the file name says so)."""
        return by_word(self.pictures)

    @property
    def images(self) -> list[str]:
        """The other image files, limited to folders named as images if there are any."""
        return images_of(self.pictures)


def scan(root: Path) -> Contents:
    """List the files below ``root``; hidden files are skipped and linked folders followed.

    Raises:
        ValueError: the folder does not exist.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; give the folder that holds your data")
    found: dict[str, list[str]] = {kind: [] for kind in ENDINGS}
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in names:
            for kind, endings in ENDINGS.items():
                if name.lower().endswith(endings) and not name.startswith("."):
                    found[kind].append((Path(folder) / name).relative_to(root).as_posix())
    return Contents(root, **{kind: sorted(files) for kind, files in found.items()})


def stem(file: str) -> str:
    """The path without its file extension; ".nii.gz" counts as one."""
    return re.sub(r"(\.nii\.gz|\.[^./]+)$", "", file, flags=re.IGNORECASE)


def mask_folder(file: str) -> str | None:
    """Name of the folder that marks the file as a mask, "" if its own name does, None if it is not a mask."""
    *folders, _ = PurePosixPath(file).parts
    for name in reversed(folders):
        if MASK_WORD.search(name.lower()):
            return name
    return "" if MASK_WORD.search(PurePosixPath(stem(file)).name.lower()) else None


def by_word(files: list[str]) -> dict[str, list[str]]:
    """Masks by the name of their folder; the folder with the most files comes last."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file in files:
        if (name := mask_folder(file)) is not None:
            groups[name].append(file)
    return dict(sorted(groups.items(), key=lambda item: (len(item[1]), item[0])))


def images_of(files: list[str]) -> list[str]:
    """Files that are not named as masks, limited to folders named as images if there are any."""
    others = [file for file in files if mask_folder(file) is None]
    named = [file for file in others if any(IMAGE_WORD.search(part.lower()) for part in file.split("/")[:-1])]
    return named or others


def common_folder(files: list[str]) -> str:
    """The deepest folder that contains all files; "" for the root."""
    folders = [PurePosixPath(file).parent.as_posix() for file in files]
    shared = os.path.commonpath(folders) if folders else ""
    return "" if shared == "." else shared


def below(files: list[str], folder: str) -> list[str]:
    """Paths relative to ``folder``."""
    return [file[len(folder) + 1 :] if folder else file for file in files]


def endings_of(files: list[str]) -> str:
    """Regular expression for the file extensions that occur: ``\\.png`` or ``\\.(?:jpg|png)``."""
    found = sorted({file[len(stem(file)) + 1 :] for file in files})
    return r"\." + (re.escape(found[0]) if len(found) == 1 else f"(?:{'|'.join(map(re.escape, found))})")


def common_end(texts: list[str]) -> str:
    """The longest common ending of several different texts that starts at a separator; "" if there is none."""
    shared = os.path.commonprefix([text[::-1] for text in texts])[::-1]  # noqa: RUF071  letters are meant
    start = re.search(r"[_\-. ]", shared)
    return shared[start.start() :] if start and len(set(texts)) > 1 else ""


def glob_of(files: list[str], folder: str, others: list[str]) -> str:
    """The widest glob below ``folder`` that matches all ``files`` and, if possible, none of ``others``."""
    wanted, rest = below(files, folder), below([one for one in others if one.startswith(folder)], folder)
    ends = {file[len(stem(file)) :] for file in wanted}
    end = glob.escape(ends.pop()) if len(ends) == 1 else ".*"
    stems = [stem(file).rsplit("/", 1)[-1] for file in wanted]
    last = {one[-1:] for one in (stem(file) for file in rest)} - {one[-1:] for one in stems}
    tails = [f"*{end}", f"*{glob.escape(common_end(stems))}{end}", f"{glob.escape(stems[0])}{end}", f"*[0-9]{end}"]
    tails += [f"*[!{''.join(sorted(filter(str.isalnum, last)))}]{end}"] if any(map(str.isalnum, last)) else []
    head = _head(wanted)
    fitting = [tail for tail in tails if all(_taken(file, head, tail) for file in wanted)]
    return head + next((tail for tail in fitting if not any(_taken(file, head, tail) for file in rest)), tails[0])


def _head(files: list[str]) -> str:
    """Glob for the folders: their names, ``*`` if names differ, ``**`` if depths differ."""
    rows = [file.split("/")[:-1] for file in files]
    if len({len(row) for row in rows}) > 1:
        return "**/"
    columns = [set(column) for column in zip(*rows, strict=True)]
    return "".join(glob.escape(one.pop()) + "/" if len(one) == 1 else "*/" for one in columns)


def _taken(file: str, head: str, tail: str) -> bool:
    parts, wanted = file.split("/"), (head + tail).split("/")
    if head == "**/":
        return fnmatchcase(parts[-1], tail)
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
