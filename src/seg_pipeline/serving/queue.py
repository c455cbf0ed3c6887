"""How many requests are handled: a bounded queue in front of a bounded number of threads, and limits per client."""

import asyncio
import ipaddress
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from seg_pipeline.serving.schema import RequestError

_Result = TypeVar("_Result")
MOST = 10_000
"""Clients that are remembered; beyond it, those that have been quiet the longest are forgotten."""


class RequestQueue:
    """Counts every request that is being received, waits or is computed. Belongs to one event loop."""

    def __init__(self, *, workers: int, queue: int) -> None:
        self.limit = workers + queue
        self.held = 0
        self._free = asyncio.Semaphore(workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="predict")
        self.running = 0
        """Jobs in the threads, including those that nobody waits for any more."""

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
        self.running += 1
        work = asyncio.get_running_loop().run_in_executor(self._pool, job)
        work.add_done_callback(self._ended)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(work)
        except TimeoutError:
            words = "prediction took too long; send a smaller one, or start the server with a longer --timeout"
            raise RequestError(504, "too_slow", words) from None

    def _ended(self, work: asyncio.Future) -> None:
        self.running -= 1
        self._free.release()
        if not work.cancelled():
            work.exception()  # retrieved, so that asyncio does not log an error after the timeout

    async def close(self, *, seconds: float) -> None:
        """Stop the threads; wait for running jobs for this long, because a thread cannot be stopped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        end = asyncio.get_running_loop().time() + seconds
        while self.running and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)


class ClientLimits:
    """Belongs to one event loop; 0 means no limit.

    Args:
        concurrent: requests of one client in progress at once.
        per_minute: requests of one client per minute; as many may come at once (a token bucket).
    """

    def __init__(self, *, concurrent: int, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._concurrent, self._per_minute, self._clock = concurrent, per_minute, clock
        self._held: Counter[str] = Counter()
        self._buckets: dict[str, tuple[float, float]] = {}
        """Requests that a client may still send, and when that was so; the quietest client first."""

    @contextmanager
    def admit(self, host: str) -> Iterator[None]:
        """Hold a place of the client with this address.

        Raises:
            RequestError: 429, it has too many requests in progress, or has sent too many.
        """
        client = _network(host)
        if self._per_minute:
            self._spend(client)
        if self._concurrent and self._held[client] >= self._concurrent:
            raise _too_many(f"{self._concurrent} requests in progress", seconds=1)
        self._held[client] += 1
        try:
            yield
        finally:
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]

    def _spend(self, client: str) -> None:
        now, rate = self._clock(), self._per_minute / 60
        left, since = self._buckets.pop(client, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - since) * rate)
        self._buckets[client] = (left - 1 if left >= 1 else left), now
        if len(self._buckets) > MOST:
            del self._buckets[next(iter(self._buckets))]
        if left < 1:
            raise _too_many(f"{self._per_minute} requests per minute", seconds=math.ceil((1 - left) / rate))


def _too_many(limit: str, *, seconds: int) -> RequestError:
    words = f"this server allows each client {limit}; try again in {seconds} s"
    return RequestError(429, "too_many", words, {"Retry-After": str(seconds)})


def _network(host: str) -> str:
    """The address of a client; of IPv6 the first 64 bits, as the rest is the client's to choose."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
