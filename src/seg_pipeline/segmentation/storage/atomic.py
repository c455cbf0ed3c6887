"""The one way this project replaces a file: write beside it, sync, rename."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields a path to write to; when the block ends without an error, that file replaces ``target``.

    A reader sees the old file or the new one, never a part of it, even after a crash or a full disk. The path is in
    the target's folder, which is created, because a rename is atomic only within one file system. Its name is unique,
    so that two processes may write the same target, and keeps the target's suffix, by which many writers choose the
    format. When the block raises, the temporary file is removed and ``target`` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        yield temporary
        _sync(temporary)
        rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Renames a file in its folder and waits until the new name is on the disk."""
    source.replace(target)
    if os.name == "posix":  # Windows cannot open a folder; NTFS journals renames by itself
        _sync(target.parent)


def _sync(path: Path) -> None:
    """Waits until the contents of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_folder(new: Path, target: Path) -> None:
    """Renames a folder; the one that it replaces is deleted afterwards."""
    before = target.with_name(f".{target.name}.{uuid.uuid4().hex}.old")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(before)
    new.rename(target)
    shutil.rmtree(before, ignore_errors=True)
