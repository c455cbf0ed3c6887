"""Locks on open files, which the system releases when the process ends, however it ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO


def lock(file: IO, *, wait: bool = False, shared_with_forks: bool = False) -> bool:
    """Lock a file until it is closed; False if it is locked already and ``wait`` is false.

    By default the lock belongs to the process (``lockf``), so that a forked worker which outlives it does not hold
    it; closing any other handle on the file releases it too. With ``shared_with_forks`` it belongs to the handle
    (``flock``), so that it also excludes other handles in this process. Windows has one kind only.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 30)  # a locked byte cannot be read, so lock one beyond the text
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            acquire = fcntl.flock if shared_with_forks else fcntl.lockf
            acquire(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


class HeldError(Exception):
    """Another process holds the lock; the text is what it has written about itself so far."""


@contextmanager
def held(file: Path, about: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which is created and contains ``about``, during a block.

    Raises:
        HeldError: another process holds it, and ``wait`` is false.
    """
    with file.open("a+", encoding="utf-8") as stream:
        if not lock(stream, wait=wait) and not wait:  # a file system without locks cannot be waited for
            stream.seek(0)
            raise HeldError(stream.read())
        stream.truncate(0)
        stream.write(about)
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)


@contextmanager
def only_process(file: Path, busy: str) -> Iterator[None]:
    """Hold the lock of a file, which contains the number of this process, during a block.

    Raises:
        ValueError: another process holds it; the message ends with ``busy``, in which {process} is its id.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held(file, str(os.getpid())))
        except HeldError as other:
            raise ValueError(f"{file}: " + busy.format(process=str(other).strip() or "unknown")) from None
        yield
