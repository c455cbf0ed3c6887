"""List the files of a folder, and the pages of its TIFF files."""

import glob as globbing
import itertools
import logging
import os
import unicodedata
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from seg_pipeline.segmentation.images.decoding import count_pages
from seg_pipeline.segmentation.images.remote import ANY_FOLDERS, is_remote, list_remote, lower_ending
from seg_pipeline.segmentation.images.tiff import ENDINGS

log = logging.getLogger(__name__)
PICTURES = (".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of image files, wherever a folder is searched for images."""


def list_files(folder: str | Path, glob: str) -> list[str]:
    """Sorted paths, relative to ``folder`` and with forward slashes, of its files that match ``glob``.

    As in a shell, hidden files are skipped and linked folders are followed, but not back to a folder that they are in.
    An ending may be in upper case. Bytes of names that are not UTF-8 are escaped.
    """
    return [as_text(file) for file in list_raw_files(folder, glob)]


def list_raw_files(folder: str | Path, glob: str) -> list[str]:
    """As ``list_files``, with names as the system has them."""
    if is_remote(folder):
        files = list_remote(str(folder), glob)
        if not files:
            raise ValueError(f"{folder}: no file matches the glob {glob!r}; check the address and the glob")
        return files
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; put the data there or change the path")
    files = find_files(folder, glob)
    if not files:
        present = sorted(as_text(one.relative_to(folder).as_posix()) for one in folder.rglob("*") if one.is_file())
        raise ValueError(
            f"{folder}: no file matches the glob {glob!r}; the folder holds {len(present)} files"
            + (f", such as {', '.join(present[:3])}" if present else "")
        )
    return files


def find_files(folder: str | Path, glob: str) -> list[str]:
    """As ``list_raw_files``; an empty list if there are none."""
    parts = [part for part in glob.replace(os.sep, "/").split("/") if part not in ("", ".")]
    start, number = _fixed(parts)
    return sorted(set(_found(str(folder), "" if start == "." else start, parts[number:], ())))


def fixed_folder(glob: str) -> str:
    """The folder that a glob names before its first pattern; "." if none."""
    return _fixed(glob.split("/"))[0]


def _fixed(parts: Sequence[str]) -> tuple[str, int]:
    fixed = list(itertools.takewhile(lambda part: not globbing.has_magic(part), parts[:-1]))
    return os.path.normpath("/".join(fixed)).replace(os.sep, "/") if fixed else ".", len(fixed)


def _found(root: str, below: str, parts: Sequence[str], above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Files below a folder that match the parts of a glob; ``above``: the folders on the way to it."""
    folder = f"{root}/{below}" if below else root
    try:
        about = os.stat(folder)  # noqa: PTH116  as is all here: a Path takes several times as long
        here = about.st_dev, about.st_ino
        entries = list(os.scandir(folder)) if here not in above else []
    except OSError as error:
        log.warning("%s cannot be listed: %s", as_text(folder), error.strerror)
        return
    of_any = parts[0] == ANY_FOLDERS
    if of_any and len(parts) > 1:
        yield from _found(root, below, parts[1:], above)
    for entry in entries:
        name, path = entry.name, f"{below}/{entry.name}" if below else entry.name
        hidden = name.startswith(".") and not parts[0].startswith(".")
        if hidden or not (of_any or fnmatchcase(name, parts[0]) or fnmatchcase(lower_ending(name), parts[0])):
            continue
        if os.path.isdir(entry):  # noqa: PTH112
            if of_any or len(parts) > 1:
                yield from _found(root, path, parts if of_any else parts[1:], (*above, here))
        elif len(parts) == 1 and os.path.isfile(entry):  # noqa: PTH113
            yield path


def composed(name: str) -> str:
    """The name in Unicode's form NFC, in which ids are; macOS writes "ö" as "o" with dots."""
    return unicodedata.normalize("NFC", name)


def as_text(name: str) -> str:
    r"""A name in which bytes that are not UTF-8, which Python has as surrogates, are escaped: "bild_\\xe4.png"."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def with_pages(folder: str | Path, files: Sequence[str]) -> list[str]:
    """Files, and instead of each TIFF of several pages the address of every page; a damaged one stays as it is."""
    found: list[str] = []
    for file in files:
        number = count_pages(f"{folder}/{file}") if PurePosixPath(file).suffix.lower() in ENDINGS else 1
        found += [f"{file}?page={page}" for page in range(1, number + 1)] if number > 1 else [file]
    return found
