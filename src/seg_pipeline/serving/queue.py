"""Limit the requests: a bounded queue in front of a bounded number of threads, and limits per client."""

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
MAX_CLIENTS = 10_000
"""Clients to remember; beyond this number, the one that has been idle longest is forgotten."""


class RequestQueue:
    """Counts the requests that are being received, wait or are computed. Belongs to one event loop."""

    def __init__(self, *, workers: int, queue: int) -> None:
        self.limit = workers + queue
        self.held = 0
        self._free = asyncio.Semaphore(workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="predict")
        self.running = 0
        """Jobs in the threads, including those whose request has timed out."""

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold a place in the queue. Take it before reading the body, so that waiting requests use bounded memory.

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
            RequestError: 503, no worker was free in time; 504, the job did not finish in time.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            detail = "no worker was free in time; try again later, or start the server with a longer --timeout"
            raise RequestError(503, "no_worker", detail, {"Retry-After": "5"}) from None
        self.running += 1
        work = asyncio.get_running_loop().run_in_executor(self._pool, job)
        work.add_done_callback(self._job_ended)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(work)
        except TimeoutError:
            detail = "prediction took too long; send a smaller image, or start the server with a longer --timeout"
            raise RequestError(504, "too_slow", detail) from None

    def _job_ended(self, work: asyncio.Future) -> None:
        self.running -= 1
        self._free.release()
        if not work.cancelled():
            work.exception()  # retrieved, so that asyncio does not log an error after the timeout

    async def close(self, *, seconds: float) -> None:
        """Stop the threads; wait ``seconds`` for running jobs, because a thread cannot be stopped."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        end = asyncio.get_running_loop().time() + seconds
        while self.running and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)


class ClientLimits:
    """Limits per client; 0 means no limit. Belongs to one event loop.

    Args:
        concurrent: requests of one client in progress at once.
        per_minute: requests of one client per minute, which may arrive all at once (a token bucket).
    """

    def __init__(self, *, concurrent: int, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._concurrent, self._per_minute, self._clock = concurrent, per_minute, clock
        self._held: Counter[str] = Counter()
        self._buckets: dict[str, tuple[float, float]] = {}
        """Requests that a client may still send, and the time of that count; the longest idle client first."""

    @contextmanager
    def admit(self, host: str) -> Iterator[None]:
        """Hold a place of the client with this address.

        Raises:
            RequestError: 429, it has too many requests in progress, or has sent too many.
        """
        client = _client_key(host)
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
        remaining, updated = self._buckets.pop(client, (float(self._per_minute), now))
        remaining = min(float(self._per_minute), remaining + (now - updated) * rate)
        self._buckets[client] = (remaining - 1 if remaining >= 1 else remaining), now
        if len(self._buckets) > MAX_CLIENTS:
            del self._buckets[next(iter(self._buckets))]
        if remaining < 1:
            raise _too_many(f"{self._per_minute} requests per minute", seconds=math.ceil((1 - remaining) / rate))


def _too_many(limit: str, *, seconds: int) -> RequestError:
    detail = f"this server allows each client {limit}; try again in {seconds} s"
    return RequestError(429, "too_many", detail, {"Retry-After": str(seconds)})


def _client_key(host: str) -> str:
    """The address of a client; for IPv6 its first 64 bits, because the client chooses the rest."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
