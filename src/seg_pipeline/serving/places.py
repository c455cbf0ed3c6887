"""A bounded queue before a bounded number of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from seg_pipeline.serving.refusals import Refusal

_Answer = TypeVar("_Answer")


class Places:
    """One for each request that is sent, waits or is computed. Belongs to one event loop."""

    def __init__(self, *, workers: int, queue: int) -> None:
        self.limit = workers + queue
        self.held = 0
        self._free = asyncio.Semaphore(workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="predict")

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Taken before the body is read: what waits in memory is bounded too.

        Raises:
            Refusal: 429, all are taken.
        """
        if self.held >= self.limit:
            raise Refusal(
                429,
                "busy",
                f"all {self.limit} places are taken; try again in a moment",
                {"Retry-After": "1"},
            )
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    async def run(self, job: Callable[[], _Answer], *, deadline: float) -> _Answer:
        """Result of ``job`` in a thread; ``deadline`` is a time of the event loop's clock.

        A thread cannot be stopped: a job that is too late keeps its worker until it ends.

        Raises:
            Refusal: 503, no worker was free in time; 504, the job was not done in time.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            words = "no worker was free in time; try again later, or start the server with a longer --timeout"
            raise Refusal(503, "no_worker", words, {"Retry-After": "5"}) from None
        work = asyncio.get_running_loop().run_in_executor(self._pool, job)
        work.add_done_callback(self._ended)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(work)
        except TimeoutError:
            words = "the image took too long; send a smaller one, or start the server with a longer --timeout"
            raise Refusal(504, "too_slow", words) from None

    def _ended(self, work: asyncio.Future) -> None:
        self._free.release()
        if not work.cancelled():
            work.exception()  # looked at, so that asyncio does not report what came after the time-out

    def close(self) -> None:
        """Waits for the jobs that run."""
        self._pool.shutdown()
