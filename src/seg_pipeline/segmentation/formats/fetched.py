"""Local copies of files at addresses, for formats whose readers need local files."""

import errno
import json
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from seg_pipeline.segmentation.images.decoding import read_size, repeated
from seg_pipeline.segmentation.images.remote import copy_remote, stamps_below
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.storage.atomic import replacing

STAMPS = ".fetched.json"
"""By the address of each copy: size and etag, and whether it is the head of the file only."""
HEAD = 65_536
SIZED = {".bmp", ".jpeg", ".jpg", ".png"}
"""Endings of images of which ``HEAD`` bytes usually tell the size."""
IMAGES = SIZED | {".gif", ".tif", ".tiff", ".webp"}
THREADS = 8
"""Files that are fetched at a time: a store takes longer to answer than to send."""

Stamp = tuple[int, str, bool]


def join_address(address: str, *parts: str) -> str:
    """The address of ``parts`` below another one, without "." and ".."."""
    protocol, _, rest = address.partition("://")
    return f"{protocol}://{posixpath.normpath(posixpath.join(rest, *parts))}"


def above(place: Path | str) -> Path | str:
    """The folder of a file."""
    return place.parent if isinstance(place, Path) else join_address(place, "..")


def local_copy(address: str, store: Path) -> Path:
    """Where ``fetch`` puts a file or folder."""
    protocol, _, rest = address.partition("://")
    return store / protocol / rest.strip("/")


def fetch(address: str, store: Path, *, heads: bool = False) -> dict[str, str]:
    """Copy a file, or all files below a folder, to ``local_copy``, unless their size and etag are unchanged.

    Args:
        heads: of images, copy only the leading bytes if they tell the size.

    Returns:
        Why files cannot be read, by their addresses; their copies are empty.

    Raises:
        ValueError: there is no file, or the store cannot be listed.
    """
    found = {join_address(address, name): stamp for name, stamp in stamps_below(address).items()}
    if not found:
        raise ValueError(f"{address}: no such file or folder; check the address")
    stamps = {one: (*stamp, heads and PurePosixPath(one).suffix.lower() in SIZED) for one, stamp in found.items()}
    lost: dict[str, str] = {}
    with _known(store) as known:
        for gone in [one for one in known if one.startswith(f"{address}/") and one not in found]:
            local_copy(gone, store).unlink(missing_ok=True)
            del known[gone]
        new = [one for one, stamp in stamps.items() if not _is_kept(known.get(one), stamp, local_copy(one, store))]
        copies = map_in_threads(partial(_copy, stamps=stamps, store=store), new, workers=THREADS)
        shown = progress_bar(copies, total=len(new), title="fetching files", unit="files", hidden=not new)
        for one, problem in zip(new, shown, strict=True):
            known[one] = stamps[one]
            if problem:
                lost[one] = problem
                del known[one]
    return lost


def fetch_annotations(place: Path | str, store: Path, folder: str = ".") -> Path:
    """The local path of a file, or of a ``folder`` below a folder; at an address, it and the sizes of images are read.

    Raises:
        ValueError: as ``fetch``, or a file that is no image cannot be read. An image that cannot is an empty file.
    """
    if isinstance(place, Path):
        return place / folder
    address = join_address(place, folder)
    lost = fetch(address, store, heads=True)
    for problem in (told for one, told in lost.items() if PurePosixPath(one).suffix.lower() not in IMAGES):
        raise ValueError(problem)
    return local_copy(address, store)


@contextmanager
def _known(store: Path) -> Iterator[dict[str, Stamp]]:
    """The stamps, which are stored again, also if fetching is interrupted."""
    path = store / STAMPS
    before = json.loads(path.read_bytes()) if path.is_file() else {}
    known = {one: (size, changed, head) for one, (size, changed, head) in before.items()}
    was = dict(known)
    try:
        yield known
    finally:
        if known != was:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(known), encoding="utf-8")


def _is_kept(known: Stamp | None, stamp: Stamp, copy: Path) -> bool:
    return known is not None and known[:2] == stamp[:2] and known[2] <= stamp[2] and copy.is_file()


def _copy(address: str, stamps: dict[str, Stamp], store: Path) -> str | None:
    """Write one copy; returns why it is empty, if it is."""
    size, _, head = stamps[address]
    target = local_copy(address, store)
    try:
        with replacing(target) as temporary:
            repeated(lambda: copy_remote(address, temporary, length=HEAD if head else None))
            if head and size > HEAD and not _has_size(temporary):
                repeated(lambda: copy_remote(address, temporary))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        target.write_bytes(b"")
        return f"{address}: cannot be read: {getattr(error, 'strerror', None) or error}"
    return None


def _has_size(path: Path) -> bool:
    try:
        return bool(read_size(path))
    except (OSError, ValueError):
        return False
