"""Apply a function to many tasks at once: results in order, memory bounded, on any executor."""

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

MOST_WORKERS = 8
"""Default limit: beyond it, threads wait for the interpreter lock more than they gain."""
MAX_DEATHS = 3
"""Deaths of workers without a result in between that are a task's fault; one or two may be chance."""

_lock = threading.RLock()  # the garbage collector may end an abandoned map in any thread, even in one that holds it
_running = [0, 0]
"""Maps that run, and OpenCV's number of threads before the first of them."""


def map_ordered(
    executor: TaskExecutor,
    function: Callable[[Task], Value],
    tasks: Iterable[Task],
    window: int | None = None,
    *,
    instead: Callable[[Task], Value] | None = None,
) -> Iterator[Value]:
    """``map(function, tasks)`` on an executor, which stays open. An error is raised in place of its result.

    Tasks are taken in the consumer's thread, at most ``window`` before the consumer asks for their result, so that
    memory does not grow with their number; joblib's generator has no such limit. The tasks of a worker that dies run
    again. After two deaths without a result they run one by one, which needs least memory and shows which one kills.
    If the consumer stops early, even by Ctrl-C, the tasks that it has not seen are cancelled.

    Args:
        window: None: four per process, two per thread.
        instead: gives the value of a task that killed its worker ``MAX_DEATHS`` times, in this process, as files from
            elsewhere may do. It may map on the executor too, which has no other task then.

    Raises:
        RuntimeError: a task killed its worker ``MAX_DEATHS`` times, and there is no ``instead``.
    """
    source, ahead = iter(tasks), window or executor.window
    waiting: deque[tuple[Task, Future[Value] | None]] = deque()
    deaths = alone = 0
    try:
        while True:
            if not alone:
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
                if not executor.died(error):
                    if (cause := executor.cause_of(error)) is not error:
                        raise cause from error
                    raise
                deaths += 1
                executor.renew()
                if deaths < MAX_DEATHS:
                    log.warning("a worker died (%s); its tasks run again", error)
                    alone = len(waiting) if deaths > 1 else 0
                    again = [(one, None if _is_lost(running, executor) else running) for one, running in waiting]
                    waiting = deque(
                        again if alone else [(one, run or executor.submit(function, one)) for one, run in again]
                    )
                    continue
                if instead is None:
                    raise RuntimeError(_killed(task)) from error
                value = instead(task)
            waiting.popleft()
            deaths, alone = 0, max(0, alone - 1)
            yield value
    finally:
        executor.cancel([future for _, future in waiting if future is not None and not future.done()])


def _is_lost(future: Future | None, executor: TaskExecutor) -> bool:
    if future is None or future.cancelled():
        return True
    error = future.exception() if future.done() else None
    return error is not None and executor.died(error)


def _killed(task: object) -> str:
    return (
        f"a worker process died {MAX_DEATHS} times, at last with this task alone: {str(task)[:300]}. Either memory ran "
        "out (the system's log tells: use fewer workers) or a file crashes its reader (take it out)"
    )


def num_threads(workers: int | None) -> int:
    """The number of workers; None: one per core that this process may use, at most ``MOST_WORKERS``."""
    return min(MOST_WORKERS, joblib.cpu_count()) if workers is None else workers


def map_in_threads(
    function: Callable[[Task], Value], tasks: Iterable[Task], *, workers: int, ahead: int | None = None
) -> Iterator[Value]:
    """``map_ordered`` in threads, for functions that release the interpreter lock and share open tensors or arrays.

    Args:
        workers: 0: no threads.
        ahead: None: two per worker.
    """
    if not workers:
        yield from map_ordered(InProcess(), function, tasks)
        return
    with _one_opencv_thread(), _usual_torch_threads(), Threads(workers, initializer=_one_torch_thread) as executor:
        yield from map_ordered(executor, function, tasks, ahead)


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


@contextmanager
def _usual_torch_threads() -> Iterator[None]:
    """Restore torch's number of threads, which ``_one_torch_thread`` also changes for threads that start later.

    Not from within the workers: one that waits for another thread, in which the garbage collector ends an abandoned
    map, which in turn waits for its workers, would wait forever.
    """
    torch = sys.modules.get("torch")
    usual = torch.get_num_threads() if torch else 0
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(usual)


def _one_torch_thread() -> None:
    """Let torch, if it is loaded, use one thread in this thread. It keeps a number per thread, and one for new ones."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
