"""Executors, which decide where tasks run; used by ``map_ordered`` and by a search.

Ray and Dask would restart dead tasks themselves, but each gives up differently. Here they only report a death, and
``map_ordered`` runs the task again, as with processes on this machine.
"""

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, ClassVar

import joblib
import psutil
from joblib.externals.loky import ProcessPoolExecutor

from seg_pipeline.segmentation.parallel.workers import exit_with_parent

IDLE_SECONDS = 10
"""How long a worker process waits for the next map before it ends."""
TASKS_PER_WORKER = 4
"""Submitted tasks per process: one that runs and others that wait. With two, workers idle during a slow task."""


class TaskExecutor(Executor):
    """An executor that knows how many tasks keep it busy, and which errors mean that a worker died."""

    workers = 1
    window = 1

    def is_worker_death(self, error: BaseException) -> bool:
        return isinstance(error, BrokenProcessPool)

    def original_error(self, error: BaseException) -> BaseException:
        """The error that the function raised."""
        return error

    def renew(self) -> None:
        """Replace dead workers."""

    def cancel(self, futures: Sequence[Future]) -> None:
        """Stop tasks whose results are no longer needed."""
        for future in futures:
            future.cancel()


class InProcess(TaskExecutor):
    """This process; ``submit`` returns when the task has ended."""

    def submit(self, function: Callable, /, *arguments: Any, **options: Any) -> Future:
        future: Future = Future()
        future.set_result(function(*arguments, **options))
        return future


class Threads(TaskExecutor, ThreadPoolExecutor):
    """Threads of this process."""

    def __init__(self, workers: int, initializer: Callable[[], None] | None = None) -> None:
        ThreadPoolExecutor.__init__(self, workers, "image", initializer)
        self.workers, self.window = workers, 2 * workers


class Processes(TaskExecutor):
    """loky's processes, which outlive a map by some seconds so that the next one can reuse them.

    Not loky's reusable executor, which joblib would use too, so that the next ``joblib.Parallel`` would fail.
    """

    _pools: ClassVar[dict[int, Any]] = {}

    def __init__(self, workers: int) -> None:
        self.workers, self.window = workers, TASKS_PER_WORKER * workers
        self._pool: Any = None

    def renew(self) -> None:
        threads = str(max(1, joblib.cpu_count() // self.workers))
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        env = {name: os.environ.get(name, threads) for name in names}
        options: Any = {"initializer": _prepare_worker, "initargs": (os.getpid(),), "env": env, "timeout": IDLE_SECONDS}
        if self._pool is not None:
            self._pools.pop(self.workers, None)
        self._pool = self._pools.get(self.workers) or ProcessPoolExecutor(self.workers, **options)
        self._pools[self.workers] = self._pool

    def submit(self, function: Callable, /, *arguments: Any, **options: Any) -> Future:
        if self._pool is None:
            self.renew()
        try:
            return self._pool.submit(function, *arguments, **options)
        except BrokenProcessPool as error:  # a worker died since the last result
            future: Future = Future()
            future.set_exception(error)
            return future

    def cancel(self, futures: Sequence[Future]) -> None:
        """Also kill busy workers; loky's own way to do so ends with a KeyError in a thread."""
        super().cancel(futures)
        if futures:
            for pid in list(self._pool._processes):
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
            self._pool.shutdown()  # waits until it has noticed the deaths
            self._pools.pop(self.workers, None)
            self._pool = None


def _prepare_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends them
    exit_with_parent(parent)  # loky's workers outlive a killed parent by five minutes


class RayTasks(TaskExecutor):
    """Tasks on the Ray cluster that this process is connected to."""

    def __init__(self, workers: int | None = None, *, threads: int = 1, gpus: int = 0) -> None:
        import ray

        self._ray = ray
        self._remote = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)
        self._tasks: dict[Future, Any] = {}
        self.workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self.window = TASKS_PER_WORKER * self.workers

    def submit(self, function: Callable, /, *arguments: Any, **options: Any) -> Future:
        def run() -> Any:  # pickled by value, so that Ray does not treat an argument as one of its references
            return function(*arguments, **options)

        task = self._remote(run).remote()
        future = task.future()
        self._tasks[future] = task
        future.add_done_callback(lambda done: self._tasks.pop(done, None))
        return future

    def is_worker_death(self, error: BaseException) -> bool:
        kinds = self._ray.exceptions
        return isinstance(error, kinds.RayError) and not isinstance(
            error, kinds.RayTaskError | kinds.TaskCancelledError
        )

    def original_error(self, error: BaseException) -> BaseException:
        return getattr(error, "cause", None) or error

    def cancel(self, futures: Sequence[Future]) -> None:
        for task in [task for future, task in list(self._tasks.items()) if future in set(futures)]:
            self._ray.cancel(task, force=True)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        self.cancel(list(self._tasks))


class DaskTasks(TaskExecutor):
    """Tasks of a ``distributed.Client``."""

    def __init__(self, client: Any, workers: int | None = None) -> None:
        self._client, self._executor = client, client.get_executor(pure=False)
        self.workers = workers or max(1, sum(client.nthreads().values()))
        self.window = TASKS_PER_WORKER * self.workers

    def submit(self, function: Callable, /, *arguments: Any, **options: Any) -> Future:
        return self._executor.submit(function, *arguments, **options)

    def is_worker_death(self, error: BaseException) -> bool:
        return type(error).__name__ == "KilledWorker"  # after three deaths, see `distributed.scheduler`

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Keep the client open for its other users. Running tasks end by themselves."""
