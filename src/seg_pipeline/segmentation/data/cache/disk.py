"""A cache on disk: a folder named after its key, with one .npy file per array and an index.

index.json holds the key, the size of each file, the sha256 of the small ones, and a sha256 of these entries. A cache
is written to a temporary folder, which is renamed once everything is on disk. Opening a cache checks the index, the
size of every file and the contents of the small ones. The pixels are not hashed, because reading them would take as
long as an epoch.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from seg_pipeline.segmentation.data.memory import format_bytes, free_disk
from seg_pipeline.segmentation.storage.atomic import beside, replacing, sweep

log = logging.getLogger(__name__)

MAX_CACHES = 4
"""Number of most recently used caches to keep; caches in use by a run are also kept."""
HASHED_ARRAYS = ("keys", "shapes")
"""Arrays whose contents are checked when a cache is opened."""
INDEX = "index.json"

Fill = Callable[[Callable[[str, tuple[int, ...], str], np.ndarray]], Mapping[str, np.ndarray]]
"""Creates the arrays with the allocation function that it receives."""


def open_arrays(cache: Path) -> dict[str, np.ndarray]:
    """Memory-map the arrays of a cache."""
    names = json.loads((cache / INDEX).read_text(encoding="utf-8"))["bytes"]
    return {name: np.load(_file(cache, name), mmap_mode="r") for name in names}


def lock_shared(cache: Path) -> int | None:
    """Lock a cache so that no other run removes it; return the descriptor to close, or None if there are no locks."""
    try:
        import fcntl

        descriptor = os.open(cache / INDEX, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
    except (ImportError, OSError):  # Windows does not remove open files; some network disks have no locks
        return None
    return descriptor


def _is_locked(cache: Path) -> bool:
    try:
        import fcntl

        with (cache / INDEX).open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, FileNotFoundError):
        return False
    except OSError:  # locked, or not writable
        return True
    return False


def find_or_write(folder: Path, key: str, needed: int, fill: Fill) -> Path:
    """Return the folder of the cache with this key; fill and write it first if it is missing or damaged.

    If two processes do this at once, the cache that is complete first is kept.

    Raises:
        ValueError: the cache cannot be written, usually because the disk is full; no partial files remain.
    """
    cache = folder / key
    if cache.is_dir():
        if (damage := _damage(cache, key)) is None:
            with suppress(OSError):  # a read-only folder
                os.utime(cache)  # marks it as recently used
            return cache
        log.warning("pixel cache %s is damaged (%s) and is rebuilt", cache, damage)
    try:
        if needed > free_disk(folder):
            raise OSError("not enough space")
        with beside(cache, folder=True) as temporary:
            _write(temporary, key, fill)
            _publish(temporary, cache, key)
    except OSError as error:
        raise ValueError(
            f"{folder}: a pixel cache of {format_bytes(needed)} ({needed:,} bytes) cannot be written: "
            f"{error.strerror or error}; {format_bytes(free := free_disk(folder))} ({free:,} bytes) are free. Free "
            "disk space, choose another folder, or set `cache` to none"
        ) from None
    _remove_old_caches(folder)
    return cache


def _write(temporary: Path, key: str, fill: Fill) -> None:
    for array in fill(lambda name, shape, dtype: _reserve(_file(temporary, name), shape, dtype)).values():
        assert isinstance(array, np.memmap)
        array.flush()  # to disk, before the rename marks the cache as complete
    sizes = {file_path.stem: file_path.stat().st_size for file_path in sorted(temporary.iterdir())}
    body = {"key": key, "bytes": sizes, "hashes": {name: _file_hash(_file(temporary, name)) for name in HASHED_ARRAYS}}
    with replacing(temporary / INDEX) as file:
        file.write_text(json.dumps({**body, "sha256": _text_hash(body)}, indent=1), encoding="utf-8")


def _reserve(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # without it, a full disk would kill the process when a page is written
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _publish(temporary: Path, cache: Path, key: str) -> None:
    if cache.is_dir() and _damage(cache, key):
        with beside(cache, folder=True) as damaged:
            damaged.rmdir()
            cache.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
    try:
        temporary.rename(cache)
    except OSError:
        if not cache.is_dir() or _damage(cache, key):
            raise
        # Another process wrote the same cache first.


def _damage(cache: Path, key: str) -> str | None:
    """Describe the damage to a cache, or return None; the pixels are not read."""
    try:
        index = json.loads((cache / INDEX).read_text(encoding="utf-8"))
        body = {"key": key, "bytes": index["bytes"], "hashes": index["hashes"]}
        if _text_hash(body) != index["sha256"]:
            return f"{INDEX} has changed since it was written"
        for name, size in index["bytes"].items():
            if (found := _file(cache, name).stat().st_size) != size:
                return f"{name}.npy has {found:,} bytes, expected {size:,}"
        changed = [name for name in HASHED_ARRAYS if _file_hash(_file(cache, name)) != index["hashes"][name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return f"{changed[0]}.npy has changed since it was written" if changed else None


def _file(cache: Path, name: str) -> Path:
    return cache / f"{name}.npy"


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text_hash(values: Mapping) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _remove_old_caches(folder: Path) -> None:
    """Remove old caches that no run uses, and half-written caches of runs that died."""
    sweep(folder)
    caches = [cache for cache in folder.iterdir() if cache.is_dir() and re.fullmatch("[0-9a-f]{64}", cache.name)]
    old = [cache for cache in sorted(caches, key=_last_change, reverse=True)[MAX_CACHES:] if not _is_locked(cache)]
    for cache in old:
        log.info("pixel cache: removed %s: %d newer ones are kept", cache, MAX_CACHES)
        shutil.rmtree(cache, ignore_errors=True)


def _last_change(folder: Path) -> float:
    """Time of the last change to the folder or its files, in seconds; growing files do not change the folder's own."""
    with suppress(OSError):  # another process may be removing it
        return max(path.stat().st_mtime for path in [folder, *folder.iterdir()])
    return 0.0
