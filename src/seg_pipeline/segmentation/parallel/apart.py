"""Call functions in a separate process, so that a crash in a decoder written in C never ends this process."""

import atexit
import contextlib
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from seg_pipeline.segmentation.parallel.workers import exit_with_parent

SECONDS = 120.0
"""Time limit of a call."""

Value = TypeVar("Value")


class ProcessDiedError(Exception):
    """The process of a call died, or took longer than ``SECONDS`` and was killed."""


def call_apart(function: Callable[..., Value], *arguments: Any) -> Value:
    """``function(*arguments)`` in another process, which is reused by the next call; safe to call from threads.

    A call whose process dies is repeated once. A daemon of ``multiprocessing``, such as a loader's worker or the
    server's decoder, may die itself, so it calls the function directly.

    Raises:
        ProcessDiedError: the process died twice.
        Exception: as from the function; types outside Python's builtins and this package become RuntimeError.
    """
    if multiprocessing.current_process().daemon:
        return function(*arguments)
    task = pickle.dumps((function, arguments), protocol=5)
    for attempt in range(2):
        process = _take()
        try:
            succeeded, result = _ask(process, task)
        except (EOFError, OSError, pickle.UnpicklingError):
            _end(process)
            if attempt:
                raise ProcessDiedError(f"ended with exit code {process.returncode}") from None
            continue
        _idle.put(process)
        if succeeded:
            return result
        raise result
    raise AssertionError


_idle: queue.LifoQueue[subprocess.Popen] = queue.LifoQueue()


def _take() -> subprocess.Popen:
    with contextlib.suppress(queue.Empty):
        return _idle.get_nowait()
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-m", __name__, str(os.getpid())]  # multiprocessing would run the caller's script again
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
    )


def _ask(process: subprocess.Popen, task: bytes) -> tuple[bool, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    limit = threading.Timer(SECONDS, process.kill)
    limit.start()
    try:
        process.stdin.write(task)
        process.stdin.flush()
        return pickle.load(process.stdout)
    finally:
        limit.cancel()


def _end(process: subprocess.Popen) -> None:
    process.kill()
    with contextlib.suppress(OSError):  # the task was not sent completely
        process.communicate()


def _end_all() -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            _end(_idle.get_nowait())


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.queue.clear)  # these processes belong to the parent


def main(parent: int) -> None:
    """Answer calls from standard input until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends this one
    exit_with_parent(parent)
    logging.disable()  # it lacks the caller's handlers and would write to the terminal
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # decoders may print
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            function, arguments = pickle.load(sys.stdin.buffer)
            try:
                answer = True, function(*arguments)
            except Exception as error:  # noqa: BLE001  whatever the function raises is raised by the caller
                is_known_type = type(error).__module__.partition(".")[0] in ("builtins", "seg_pipeline")
                answer = False, error if is_known_type else RuntimeError(f"{type(error).__name__}: {error}")
            pickle.dump(answer, answers, protocol=5)
            answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
