"""Where tasks run: executors that ``map_ordered`` and a search can use alike.

Ray and Dask start dead tasks again by themselves, but give up in ways of their own; here they report a death, and
``map_ordered`` runs the task again, as with processes of this machine.
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
PER_WORKER = 4
"""Tasks at a time per process, one that runs and others that wait for it: with two, a slow task lets workers idle."""


class TaskExecutor(Executor):
    """An executor that knows how many tasks keep it busy, and which errors mean that a worker died."""

    workers = 1
    window = 1

    def died(self, error: BaseException) -> bool:
        return isinstance(error, BrokenProcessPool)

    def cause_of(self, error: BaseException) -> BaseException:
        """The error as the function raised it."""
        return error

    def renew(self) -> None:
        """Replace dead workers."""

    def cancel(self, futures: Sequence[Future]) -> None:
        """Stop tasks whose results nobody wants any more."""
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
    """loky's processes, which outlive a map by some seconds and are found again by the next one.

    Not loky's own reusable executor: joblib takes that for its own, and the first ``joblib.Parallel`` after it fails.
    """

    _pools: ClassVar[dict[int, Any]] = {}

    def __init__(self, workers: int) -> None:
        self.workers, self.window = workers, PER_WORKER * workers
        self._pool: Any = None

    def renew(self) -> None:
        threads = str(max(1, joblib.cpu_count() // self.workers))
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        env = {name: os.environ.get(name, threads) for name in names}
        given: Any = {"initializer": _prepare_worker, "initargs": (os.getpid(),), "env": env, "timeout": IDLE_SECONDS}
        if self._pool is not None:
            self._pools.pop(self.workers, None)
        self._pool = self._pools.get(self.workers) or ProcessPoolExecutor(self.workers, **given)
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
        """Kill the workers too, if they are busy; loky's own way of it ends with a KeyError in a thread."""
        super().cancel(futures)
        if futures:
            for pid in list(self._pool._processes):
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
            self._pool.shutdown()  # it waits until the deaths are known
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
        self.window = PER_WORKER * self.workers

    def submit(self, function: Callable, /, *arguments: Any, **options: Any) -> Future:
        def run() -> Any:  # pickled by value, so that no argument is taken for a reference of Ray's
            return function(*arguments, **options)

        task = self._remote(run).remote()
        future = task.future()
        self._tasks[future] = task
        future.add_done_callback(lambda done: self._tasks.pop(done, None))
        return future

    def died(self, error: BaseException) -> bool:
        kinds = self._ray.exceptions
        return isinstance(error, kinds.RayError) and not isinstance(
            error, kinds.RayTaskError | kinds.TaskCancelledError
        )

    def cause_of(self, error: BaseException) -> BaseException:
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
        self.window = PER_WORKER * self.workers

    def submit(self, function: Callable, /, *arguments: Any, **options: Any) -> Future:
        return self._executor.submit(function, *arguments, **options)

    def died(self, error: BaseException) -> bool:
        return type(error).__name__ == "KilledWorker"  # after three deaths, see `distributed.scheduler`

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the client to its other users. Tasks that run already end by themselves."""
