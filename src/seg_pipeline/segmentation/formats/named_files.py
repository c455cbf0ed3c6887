"""Find the files that an annotation file names, although it was written on another computer."""

import itertools
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from seg_pipeline.segmentation.images.listing import composed, list_files

UPLOADED = re.compile(r"(?<![^/\\])[0-9a-f]{8}-(?=[^/\\]+$)")
"""Label Studio puts eight digits before the name of an uploaded file."""

Spelled = dict[Callable[[str], str], dict[str, list[str]]]
"""Files by their names, as they are and as one of the functions spells them."""


class Named(NamedTuple):
    file: str | None
    """Relative to the folder, with forward slashes; None if there is no such file, or more than one."""
    exact: bool
    """Whether the name is that of the file, not only its last parts."""


def plain_path(name: str) -> str:
    """The path with forward slashes, without "." and ".." where they can be resolved."""
    return os.path.normpath(name.replace("\\", "/")).replace(os.sep, "/")


def image_id(name: str, files: Mapping[str, Named], folder: Path, root: Path) -> str:
    """Path below ``root``, without its extension, of an image that ``find_files`` found below ``folder``."""
    path = PurePosixPath(os.path.relpath(folder, root), files[name].file or plain_path(name))
    return composed(path.with_suffix("").as_posix())


def find_files(names: Iterable[str], folder: Path, *, beside: Path) -> dict[str, Named]:
    """The file below ``folder`` that each name means.

    A name may have backslashes or be URL-encoded, and be relative to ``folder`` or to ``beside``. If there is no such
    file (an absolute path of another computer, a URL), the file that shares most of its last parts is taken, at
    least the file name, unless several share as many; as a last resort in capitals or small letters, and in any form of
    Unicode. It is not taken from elsewhere if the folder that the name states is there.

    Raises:
        ValueError: the folder does not exist or is empty.
    """
    files = list_files(folder, "**/*")
    known = set(files)
    by_name: Spelled = {str: defaultdict(list), _folded: defaultdict(list)}
    for file in files:
        for alike_as, index in by_name.items():
            index[alike_as(file.rsplit("/", 1)[-1])].append(file)
    roots = [plain_path(str(root.absolute())) for root in (folder, beside)]
    folders = {above.as_posix() for file in files for above in PurePosixPath(file).parents} - {"."}
    return {name: _find(name, roots, known, folders, by_name) for name in names}


def _find(name: str, roots: list[str], known: set[str], folders: set[str], by_name: Spelled) -> Named:
    if name in known:
        return Named(name, True)
    below = roots[0].rstrip("/") + "/"
    for text in spellings(name):
        for root in roots:
            path = plain_path(f"{root}/{text}" if not text.startswith("/") else text)
            if path.startswith(below) and path[len(below) :] in known:
                return Named(path[len(below) :], True)
    for alike_as, text in itertools.product(by_name, spellings(name)):
        found = by_name[alike_as].get(alike_as(text.rsplit("/", 1)[-1]), [])
        alike = sorted((_shared_parts(alike_as(text), alike_as(file)), file) for file in found)
        if alike and (len(alike) == 1 or alike[-1][0] > alike[-2][0]):
            stated, file = text.rpartition("/")[0], alike[-1][1]
            return Named(None if stated in folders and not file.startswith(f"{stated}/") else file, False)
    return Named(None, False)


def why_absent(name: str, files: Iterable[str]) -> str:
    """Why ``find_files`` found none of ``files`` for a name."""
    wanted = {text.rsplit("/", 1)[-1] for text in spellings(name)}
    alike = [file for file in files if file.rsplit("/", 1)[-1] in wanted]
    return f"{len(alike)} files have this name: {', '.join(alike[:3])}" if len(alike) > 1 else "no such file exists"


def _folded(name: str) -> str:
    return composed(name).casefold()


def spellings(name: str) -> Iterator[str]:
    """The name with forward slashes: as it is and, where that differs, URL-decoded and without ``UPLOADED``."""
    yield plain_path(name)
    address = name.partition("?")[0] if "://" in name else name
    if (decoded := unquote(address)) != name:
        yield plain_path(decoded)
    if UPLOADED.search(decoded):
        yield plain_path(UPLOADED.sub("", decoded))


def _shared_parts(one: str, other: str) -> int:
    """Number of equal last parts of two paths."""
    pairs = zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
