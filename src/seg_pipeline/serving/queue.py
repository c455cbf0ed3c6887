"""A bounded queue in front of a bounded number of threads."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from seg_pipeline.serving.errors import RequestError

_Result = TypeVar("_Result")


class RequestQueue:
    """Counts every request that is being received, waits or is computed. Belongs to one event loop."""

    def __init__(self, *, workers: int, queue: int) -> None:
        self.limit = workers + queue
        self.held = 0
        self._free = asyncio.Semaphore(workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="predict")

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold a place in the queue. Taken before the body is read, so that the memory of waiting requests is bounded.

        Raises:
            RequestError: 429, the queue is full.
        """
        if self.held >= self.limit:
            raise RequestError(
                429,
                "busy",
                f"the server is already handling {self.limit} requests; try again in a moment",
                {"Retry-After": "1"},
            )
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    async def run(self, job: Callable[[], _Result], *, deadline: float) -> _Result:
        """Result of ``job``, run in a thread; ``deadline`` is a time of the event loop's clock.

        A thread cannot be stopped: a job that misses its deadline keeps its worker until it ends.

        Raises:
            RequestError: 503, no worker was free in time; 504, the job was not done in time.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            words = "no worker was free in time; try again later, or start the server with a longer --timeout"
            raise RequestError(503, "no_worker", words, {"Retry-After": "5"}) from None
        work = asyncio.get_running_loop().run_in_executor(self._pool, job)
        work.add_done_callback(self._ended)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(work)
        except TimeoutError:
            words = "prediction took too long; send a smaller one, or start the server with a longer --timeout"
            raise RequestError(504, "too_slow", words) from None

    def _ended(self, work: asyncio.Future) -> None:
        self._free.release()
        if not work.cancelled():
            work.exception()  # retrieved, so that asyncio does not log an error after the timeout

    def close(self) -> None:
        """Wait for running jobs and stop the threads."""
        self._pool.shutdown()
