"""Where trials run: in this process, in others, or on the cluster that the run is connected to.

A worker is a ``concurrent.futures.Executor`` that runs one trial at a time. Each has its own process instead of sharing
one ``ProcessPoolExecutor``, because a process that dies breaks its whole executor and all trials on it.
"""

import logging
import os
import pickle
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import joblib
import optuna
import torch

from seg_pipeline.segmentation.parallel.cluster import engine, make_executor
from seg_pipeline.segmentation.parallel.executors import InProcess, TaskExecutor
from seg_pipeline.segmentation.parallel.workers import exit_with_parent, fork_server
from seg_pipeline.segmentation.settings.search import PoolSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings


class Workers:
    """A fixed number of workers; one that died is replaced."""

    def __init__(self, settings: PoolSettings, compute: ComputeSettings) -> None:
        self.size = 1 if settings.kind == "in_process" else settings.workers
        self.threads = settings.threads
        if settings.kind != "in_process" and self.threads is None:
            self.threads = max(1, joblib.cpu_count() // self.size)
        self._make_worker: Callable[[str | None], TaskExecutor] = SingleProcessExecutor
        if settings.kind == "in_process":
            self._make_worker = lambda _: InProcess()
        elif engine() != "local":  # the images and the study must have the same paths on all machines
            self._make_worker = lambda _: make_executor(1, threads=self.threads or 1, gpus=compute.devices)
        self._gpus = {self._make_worker(gpus): gpus for gpus in gpus_of_workers(self.size, compute)}
        self.idle: list[TaskExecutor] = list(self._gpus)
        self._busy: list[TaskExecutor] = []

    def acquire(self) -> TaskExecutor:
        self._busy.append(self.idle.pop())
        return self._busy[-1]

    def release(self, worker: TaskExecutor, *, broken: bool) -> None:
        self._busy.remove(worker)
        if broken:
            worker.shutdown()
            gpus = self._gpus.pop(worker)
            worker = self._make_worker(gpus)
            self._gpus[worker] = gpus
        self.idle.append(worker)

    def close(self) -> None:
        """Stop all workers immediately; running trials are lost and start again in the next search."""
        for worker in (*self.idle, *self._busy):
            worker.shutdown()


def gpus_of_workers(workers: int, compute: ComputeSettings) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each worker: ``compute.devices`` of this process's GPUs, in turn.

    None leaves the variable unchanged: there is no GPU, or the settings name one.
    """
    num_gpus = torch.cuda.device_count()
    if not num_gpus or compute.device not in ("auto", "cuda"):
        return [None] * workers
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(num_gpus)))
    names, per_worker = visible.split(",")[:num_gpus], min(compute.devices, num_gpus)
    assigned = [range(worker * per_worker, (worker + 1) * per_worker) for worker in range(workers)]
    return [",".join(names[position % num_gpus].strip() for position in positions) for positions in assigned]


class SingleProcessExecutor(TaskExecutor, ProcessPoolExecutor):
    """Runs calls in another process, which is not forked from this one: CUDA and threads do not survive a fork."""

    def __init__(self, gpus: str | None = None) -> None:
        ProcessPoolExecutor.__init__(self, 1, mp_context=fork_server(), initializer=_prepare_process, initargs=(gpus,))

    def submit(self, function: Callable, /, *arguments: Any, **options: Any) -> Future:
        try:
            # Pickled here, because the executor's thread would do so while this one may use the same Optuna storage.
            return super().submit(_call, pickle.dumps((function, arguments, options)))
        except BrokenProcessPool as error:  # it died between two trials
            future: Future = Future()
            future.set_exception(error)
            return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for process in list((self._processes or {}).values()):
            process.kill()  # a trial may have hours to go
        super().shutdown(wait, cancel_futures=cancel_futures)


def _call(pickled: bytes) -> Any:
    function, arguments, options = pickle.loads(pickled)
    return function(*arguments, **options)


def _prepare_process(gpus: str | None) -> None:
    exit_with_parent()
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus  # CUDA reads it at its first use, in the first trial
    logging.getLogger("seg_pipeline").setLevel(logging.WARNING)  # the parent reports progress
    optuna.logging.set_verbosity(optuna.logging.WARNING)
