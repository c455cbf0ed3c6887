"""Where trials run: in this process, in others, or on a Ray cluster. A worker runs one trial at a time.

All kinds share one small interface, so the coordinator knows none of them: ``submit`` the name of a ``Runner``'s
method and its arguments, get a future.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any, Protocol

from seg_pipeline.segmentation.search.trial import Place, Runner
from seg_pipeline.segmentation.settings.search import PoolSettings

SECONDS_BETWEEN_LOOKS = 0.2


class Worker(Protocol):
    def submit(self, method: str, *arguments: Any) -> Future: ...

    def close(self) -> None: ...


def make_pool(settings: PoolSettings, place: Place) -> Pool:
    if settings.kind == "in_process":
        return Pool(lambda: InProcess(replace(place, threads=settings.threads)), 1)
    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
    kind = Separate if settings.kind == "processes" else OnRay
    return Pool(lambda: kind(replace(place, threads=threads)), settings.workers)


class Pool:
    """As many workers as asked for, made when they are first needed, anew where one died."""

    def __init__(self, make: Callable[[], Worker], size: int) -> None:
        self.make, self.size = make, size
        self._idle: list[Worker] = []
        self._busy: list[Worker] = []

    def take(self) -> Worker | None:
        """An idle worker, if any."""
        if len(self._busy) == self.size:
            return None
        worker = self._idle.pop() if self._idle else self.make()
        self._busy.append(worker)
        return worker

    def give_back(self, worker: Worker) -> None:
        self._busy.remove(worker)
        self._idle.append(worker)

    def bury(self, worker: Worker) -> None:
        self._busy.remove(worker)
        worker.close()

    def close(self) -> None:
        for worker in (*self._idle, *self._busy):
            worker.close()


class InProcess:
    """Here; ``submit`` returns when it is done."""

    def __init__(self, place: Place) -> None:
        self._runner = Runner(place)

    def submit(self, method: str, *arguments: Any) -> Future:
        future: Future = Future()
        future.set_result(getattr(self._runner, method)(*arguments))
        return future

    def close(self) -> None:
        self._runner.stop()


_here: list[Runner] = []
"""The runner of a worker process."""


class Separate:
    """A process of its own, started afresh: CUDA and threads do not outlive a fork."""

    def __init__(self, place: Place) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_settle, initargs=(place, os.getpid()))

    def submit(self, method: str, *arguments: Any) -> Future:
        try:
            return self._pool.submit(_call, method, *arguments)
        except BrokenProcessPool as error:
            future: Future = Future()
            future.set_exception(error)
            return future

    def close(self) -> None:
        for process in list((self._pool._processes or {}).values()):
            process.kill()  # a trial that is not finished goes on from its checkpoint
        self._pool.shutdown(cancel_futures=True)


def _settle(place: Place, parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    logging.getLogger("seg_pipeline").setLevel(logging.WARNING)  # the coordinator tells how it goes
    _here[:] = [Runner(place)]


def _end_with(parent: int) -> None:
    """Ends this process when the coordinator has gone, however it went."""
    while os.getppid() == parent:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def _call(method: str, *arguments: Any) -> Any:
    return getattr(_here[0], method)(*arguments)


class OnRay:
    """An actor on a Ray cluster: the one of ``RAY_ADDRESS``, else one of this machine.

    The search's folder and the images must lie at the same path on all machines, and the package be installed there.
    """

    def __init__(self, place: Place) -> None:
        try:
            import ray
        except ImportError:
            raise ValueError(
                "`hparam_search.pool.kind: ray` needs Ray: pip install 'seg_pipeline[ray]', or set processes"
            ) from None
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False)
        self._ray, gpus = ray, int(bool(ray.cluster_resources().get("GPU")))
        self._actor = ray.remote(num_cpus=place.threads or 1, num_gpus=gpus)(Runner).remote(place)

    def submit(self, method: str, *arguments: Any) -> Future:
        return getattr(self._actor, method).remote(*arguments).future()

    def close(self) -> None:
        self._ray.kill(self._actor)


def died(error: BaseException) -> bool:
    """Whether a future failed because its worker did."""
    return isinstance(error, BrokenProcessPool) or type(error).__name__ in ("ActorDiedError", "RayActorError")
