"""Replace a file or folder atomically: write beside it, sync, rename. The whole project uses these functions.

The temporary file of ``last.pt`` is ``.last.part0.pt``, or ``part1`` if another writer uses that name. A writer locks
its file (``flock``), and the system releases the lock when the process ends, however it ends. An unlocked file was
therefore left by a killed process, and the next writer of the same target reuses its name. On file systems without
locks the name is unique, and the file remains after a kill.
"""

import itertools
import os
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

SCRATCH = "seg_pipeline-"
NEW_SECONDS = 60
"""A scratch folder younger than this may not be locked yet."""
_TEMPORARY = re.compile(r"\..+\.part\d+(\.[^.]*)?")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yields a path to write to; when the block ends without an error, that file replaces ``target``.

    A reader sees the old file or the new one, never a part of it, even after a crash or a full disk. The path is in
    the target's folder, which is created, because a rename is atomic only within one file system. Two processes may
    write the same target. If the block raises, the temporary file is removed and ``target`` does not change.
    """
    with beside(target) as temporary:
        yield temporary
        _sync(temporary)
        rename(temporary, target)


@contextmanager
def beside(target: Path, *, folder: bool = False) -> Iterator[Path]:
    """Yields a new empty file, or folder, next to ``target``, which is removed afterwards if it was not renamed.

    Its name keeps the target's suffix, by which many writers choose the format.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        path, lock = _claim(target, folder=folder)
    except OSError as error:
        _name(error, target)
        raise
    try:
        yield path
    except Exception as error:
        _name(error, target)
        raise
    finally:
        if lock is None or _is_named(lock, path):  # otherwise it was renamed, and another writer may use the name now
            _remove(path)
        if lock is not None:
            os.close(lock)


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders of killed writers directly in ``folder``."""
    with suppress(OSError):
        for path in [one for one in folder.iterdir() if _TEMPORARY.fullmatch(one.name)]:
            _remove_if_dead(path)


def rename(source: Path, target: Path) -> None:
    """Renames a file in its folder and waits until the new name is on the disk."""
    source.replace(target)
    if os.name == "posix":  # Windows cannot open a folder; NTFS journals renames by itself
        _sync(target.parent)


def replace_folder(new: Path, target: Path) -> None:
    """Renames a folder; the folder that it replaces is deleted afterwards."""
    with beside(target, folder=True) as before:
        before.rmdir()
        if moved := target.exists():
            target.rename(before)
        try:
            new.rename(target)
        except OSError:
            if moved:
                before.rename(target)
            raise
        shutil.rmtree(before, ignore_errors=True)


class ScratchFolder(tempfile.TemporaryDirectory):
    """A temporary folder, locked by its process. Creating one first removes folders left by killed processes."""

    def __init__(self, parent: str | None = None) -> None:
        for left in Path(parent or tempfile.gettempdir()).glob(f"{SCRATCH}*"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > NEW_SECONDS:
                    _remove_if_dead(left)
        super().__init__(prefix=SCRATCH, dir=parent, ignore_cleanup_errors=parent is not None)
        self._lock: int | None = None
        with suppress(OSError, _NoLocksError):
            self._lock = None if sys.platform == "win32" else _lock(Path(self.name))

    def cleanup(self) -> None:
        super().cleanup()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class _NoLocksError(Exception):
    pass


def _claim(target: Path, *, folder: bool) -> tuple[Path, int | None]:
    """A new temporary path and the descriptor that holds its lock; None where there are no locks."""
    names = (target.with_name(f".{target.stem}.part{number}{target.suffix}") for number in itertools.count())
    for path in names if sys.platform != "win32" else ():  # Windows does not rename open files
        try:
            lock = _lock(path, new="folder" if folder else "file")
        except _NoLocksError:
            _remove(path)
            break
        except PermissionError:
            if not path.exists():
                raise
            continue  # left by another user
        if lock is None:
            continue
        for left in itertools.takewhile(Path.exists, names):
            _remove_if_dead(left)
        return path, lock
    path = target.with_name(f".{target.stem}.part{uuid.uuid4().int}{target.suffix}")
    path.mkdir() if folder else path.touch()
    return path, None


def _lock(path: Path, new: str = "") -> int | None:
    """Lock a file or folder and return its descriptor; None if it is in use.

    Args:
        new: create it as "file" or "folder", or empty the one that a killed process left under this name.
    """
    if new == "folder":
        path.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT if new == "file" else os.O_RDONLY, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_named(descriptor, path):  # renamed or removed before it was locked
            raise BlockingIOError
        if new == "file":
            os.truncate(descriptor, 0)
        for one in path.iterdir() if new == "folder" else ():
            _remove(one)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise _NoLocksError from error
    return descriptor


def _name(error: BaseException, target: Path) -> None:
    """Make an OSError, or the OSError that caused the error, name the target instead of the temporary file."""
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.errno is not None and _TEMPORARY.fullmatch(_last_part(cause, target)):
        cause.filename = str(target)


def _last_part(error: OSError, target: Path) -> str:
    return Path(os.fsdecode(error.filename)).name if error.filename else f".{target.name}.part0"


def _is_named(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _remove_if_dead(path: Path) -> None:
    with suppress(OSError, _NoLocksError):
        if sys.platform != "win32" and (lock := _lock(path)) is not None:
            _remove(path)
            os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Waits until the contents of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
