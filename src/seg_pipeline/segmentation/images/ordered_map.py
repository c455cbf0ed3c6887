"""Work on many images in threads: results in order, memory bounded."""

import collections
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import cv2
import joblib

Item = TypeVar("Item")
Value = TypeVar("Value")

MOST_WORKERS = 8
"""Default limit: beyond it, threads wait for the interpreter lock more than they gain."""

_lock = threading.Lock()
_running = [0, 0]
"""Maps that run, and OpenCV's number of threads before the first of them."""


def num_threads(workers: int | None) -> int:
    """The number of workers; None: one per core that this process may use, at most ``MOST_WORKERS``."""
    return min(MOST_WORKERS, joblib.cpu_count()) if workers is None else workers


def ordered_map(
    function: Callable[[Item], Value], items: Iterable[Item], *, workers: int, ahead: int | None = None
) -> Iterator[Value]:
    """``map(function, items)`` in threads, which pays where the function releases the interpreter lock.

    Items are taken in the consumer's thread, at most ``ahead`` before the consumer asks for their result, so that
    memory does not grow with their number. An error is raised in place of its result.

    Args:
        workers: 0: no threads.
        ahead: None: two per worker.
    """
    if not workers:
        yield from map(function, items)
        return
    waiting: collections.deque[Future[Value]] = collections.deque()
    source = iter(items)
    with _one_opencv_thread():
        pool = ThreadPoolExecutor(workers, thread_name_prefix="image", initializer=_one_torch_thread)
        try:
            for item in itertools.islice(source, ahead or 2 * workers):
                waiting.append(pool.submit(function, item))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in itertools.islice(source, 1))
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """The cores are busy with images already; OpenCV's threads would only wait for each other."""
    with _lock:
        if not _running[0]:
            _running[1] = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _running[0] += 1
    try:
        yield
    finally:
        with _lock:
            _running[0] -= 1
            if not _running[0]:
                cv2.setNumThreads(_running[1])


def _one_torch_thread() -> None:
    """Let torch, if it is loaded, use one thread in this thread. It keeps a number per thread, and one for new ones."""
    if "torch" not in sys.modules:
        return
    import torch

    with _lock:
        usual = torch.get_num_threads()
        torch.set_num_threads(1)
        restored = threading.Thread(target=torch.set_num_threads, args=(usual,))
        restored.start()
        restored.join()
