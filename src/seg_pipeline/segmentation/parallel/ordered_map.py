"""Apply a function to many tasks at once, on any executor, with ordered results and bounded memory."""

import gc
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import cv2
import joblib

from seg_pipeline.segmentation.parallel.executors import InProcess, TaskExecutor, Threads

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Value = TypeVar("Value")

MAX_WORKERS = 8
"""Default limit: beyond it, threads wait for the interpreter lock more than they gain."""
MAX_DEATHS = 3
"""Number of consecutive worker deaths for which a task is blamed; one or two may be chance."""

_lock = threading.RLock()  # the garbage collector may end an abandoned map in any thread, even in one that holds it
_running = [0, 0]
"""Number of running maps, and OpenCV's number of threads before the first of them."""


def map_ordered(
    executor: TaskExecutor,
    function: Callable[[Task], Value],
    tasks: Iterable[Task],
    window: int | None = None,
    *,
    fallback: Callable[[Task], Value] | None = None,
) -> Iterator[Value]:
    """``map(function, tasks)`` on an executor, which stays open. An error is raised in place of its result.

    Tasks are taken in the consumer's thread, at most ``window`` ahead of the results consumed, so that memory does not
    grow with their number; joblib's generator has no such limit. Tasks of a worker that dies run again. After two
    deaths without a result they run one by one, which needs the least memory and shows which task kills the worker.
    If the consumer stops early, even by Ctrl-C, the remaining tasks are cancelled.

    Args:
        window: number of tasks submitted ahead; None: four per process, two per thread.
        fallback: computes, in this process, the value of a task that killed its worker ``MAX_DEATHS`` times, such as a
            broken file. It may map on the executor too, which has no other task then.

    Raises:
        RuntimeError: a task killed its worker ``MAX_DEATHS`` times, and there is no ``fallback``.
    """
    source, ahead = iter(tasks), window or executor.window
    waiting: deque[tuple[Task, Future[Value] | None]] = deque()
    deaths = num_alone = 0
    try:
        while True:
            if not num_alone:
                waiting.extend((task, executor.submit(function, task)) for task in islice(source, ahead - len(waiting)))
            if not waiting:
                return
            task, future = waiting[0]
            if future is None:
                future = executor.submit(function, task)
                waiting[0] = task, future
            try:
                value = future.result()
            except Exception as error:
                if not executor.is_worker_death(error):
                    if (cause := executor.original_error(error)) is not error:
                        raise cause from error
                    raise
                deaths += 1
                executor.renew()
                if deaths < MAX_DEATHS:
                    log.warning("a worker died (%s); its tasks run again", error)
                    num_alone = len(waiting) if deaths > 1 else 0
                    retried = [(item, None if _is_lost(running, executor) else running) for item, running in waiting]
                    waiting = deque(
                        retried
                        if num_alone
                        else [(item, running or executor.submit(function, item)) for item, running in retried]
                    )
                    continue
                if fallback is None:
                    raise RuntimeError(_killed(task)) from error
                value = fallback(task)
            waiting.popleft()
            deaths, num_alone = 0, max(0, num_alone - 1)
            yield value
    finally:
        executor.cancel([future for _, future in waiting if future is not None and not future.done()])


def _is_lost(future: Future | None, executor: TaskExecutor) -> bool:
    if future is None or future.cancelled():
        return True
    error = future.exception() if future.done() else None
    return error is not None and executor.is_worker_death(error)


def _killed(task: object) -> str:
    return (
        f"a worker process died {MAX_DEATHS} times, the last time with only this task: {str(task)[:300]}. Either "
        "memory ran out (see the system log; use fewer workers) or a file crashes its reader (remove it)"
    )


def num_threads(workers: int | None) -> int:
    """Number of threads; ``workers`` None: one per core that this process may use, at most ``MAX_WORKERS``."""
    return min(MAX_WORKERS, joblib.cpu_count()) if workers is None else workers


def map_in_threads(
    function: Callable[[Task], Value], tasks: Iterable[Task], *, workers: int, ahead: int | None = None
) -> Iterator[Value]:
    """``map_ordered`` in threads, for functions that release the interpreter lock and share tensors or arrays.

    If the consumer stops early, this waits for the tasks that have begun, except in the garbage collector: it may close
    an abandoned map in a thread that holds a lock which every thread takes to end, and waiting would be a deadlock.

    Args:
        workers: 0: no threads.
        ahead: None: two per worker.
    """
    if not workers:
        yield from map_ordered(InProcess(), function, tasks)
        return
    with _one_opencv_thread(), _one_torch_thread() as initializer:
        executor = Threads(workers, initializer=initializer)
        try:
            yield from map_ordered(executor, function, tasks, ahead)
        finally:
            executor.shutdown(wait=not _collector.is_running)


class _Collector(threading.local):
    """Knows whether the garbage collector runs in this thread."""

    is_running = False

    def __call__(self, phase: str, _: dict) -> None:
        self.is_running = phase == "start"


_collector = _Collector()
gc.callbacks.append(_collector)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Let OpenCV use one thread, because the cores are already busy with other images."""
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


@contextmanager
def _one_torch_thread() -> Iterator[Callable[[], None]]:
    """Yield an initializer of workers that lets torch, if loaded, use one thread in each of them.

    torch has a number per thread and one for threads that start later. The latter is restored in the end; a worker that
    starts only then leaves it alone.
    """
    torch = sys.modules.get("torch")
    num_threads = torch.get_num_threads() if torch else 0
    has_ended = False

    def initialise() -> None:
        with _lock:
            if not has_ended and (loaded := sys.modules.get("torch")):
                loaded.set_num_threads(1)

    try:
        yield initialise
    finally:
        with _lock:
            has_ended = True
            if torch:
                torch.set_num_threads(num_threads)
