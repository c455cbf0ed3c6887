"""Decode uploads, in processes of their own if wanted: a hostile file then costs such a process, never the server.

A thread cannot be stopped and shares the server's memory; a process can be killed, and the system limits its memory and
the time that it computes.
"""

import contextlib
import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from seg_pipeline.segmentation.settings.reading import ReadSettings
from seg_pipeline.serving.image_checks import FORMATS, DecodedUpload, check_upload
from seg_pipeline.serving.schema import RequestError

MEMORY_PER_PIXEL = 48
"""Bytes that decoding may take for each allowed pixel: three copies of RGB and alpha in 32 bits."""
MEMORY = 256 << 20
"""Bytes that decoding may take beyond that."""
START_SECONDS = 60.0
"""Longest start of a process."""

Decode = Callable[[str, bytes, int | None], DecodedUpload]
"""From the name and contents of a file, and the page wanted of several, counted from 1."""


def decode_upload(
    name: str, data: bytes, page: int | None = None, *, max_pixels: int, reading: ReadSettings
) -> DecodedUpload:
    """Check and decode a file in this process.

    Raises:
        RequestError: as ``check_upload`` and ``ImageUpload.decode``.
    """
    return check_upload(name, data, max_pixels=max_pixels, page=page).decode(reading)


class DecodingProcesses:
    """``decode_upload`` in processes with limits on memory and time; a process that breaks one is replaced.

    Args:
        number: processes, hence files decoded at the same time.
        seconds: longest time for one file.
    """

    def __init__(self, *, number: int, seconds: float, max_pixels: int, reading: ReadSettings) -> None:
        self._seconds, self._given, self._closed = seconds, (max_pixels, reading, seconds), False
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all = [_Process(*self._given) for _ in range(number)]
        for process in self._all:
            self._idle.put(process)

    def __call__(self, name: str, data: bytes, page: int | None = None) -> DecodedUpload:
        """Blocks the calling thread; safe to call from several.

        Raises:
            RequestError: as ``decode_upload``; 422, the file takes too long or too much memory.
        """
        process = self._idle.get()
        try:
            answer = process.ask((name, data, page), seconds=self._seconds)
        except _LimitError as error:
            process.stop()
            if self._closed:
                raise RequestError(503, "stopping", "the server is stopping", {"Retry-After": "5"}) from None
            self._all.remove(process)
            process = _Process(*self._given)
            self._all.append(process)
            raise RequestError(422, "too_costly", f"{name}: {error}") from None
        finally:
            self._idle.put(process)
        if isinstance(answer, tuple):
            raise RequestError(*answer)
        return answer

    def wait(self) -> None:
        """Wait until all processes have started. Raises RuntimeError if one does not."""
        for process in self._all:
            process.wait()

    def close(self) -> None:
        """Stop all processes at once, whatever they decode."""
        self._closed = True
        for process in self._all:
            process.kill()


class _LimitError(Exception):
    """A process died, or took too long."""


class _Process:
    def __init__(self, *given: Any) -> None:
        context = get_context("spawn")  # a fork would copy the server's locks and memory
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, *given), daemon=True, name="decode")
        self._process.start()
        theirs.close()
        self._ready, self._starting = False, threading.Lock()

    def wait(self) -> None:
        with self._starting:
            if not self._ready:
                self._receive(START_SECONDS)
                self._ready = True

    def ask(self, task: tuple[str, bytes, int | None], *, seconds: float) -> Any:
        try:
            self.wait()
            self._pipe.send(task)
            return self._receive(seconds)
        except (EOFError, OSError):
            raise _LimitError("decoding it takes too much memory, or it is damaged") from None

    def _receive(self, seconds: float) -> Any:
        if not self._pipe.poll(seconds):
            raise _LimitError(f"decoding it takes more than {seconds:g} seconds")
        return self._pipe.recv()

    def kill(self) -> None:
        """May be called while another thread waits for an answer."""
        self._process.kill()
        self._process.join()

    def stop(self) -> None:
        self.kill()
        self._pipe.close()


def _work(pipe: Connection, max_pixels: int, reading: ReadSettings, seconds: float) -> None:
    """Decode what comes through the pipe until the server closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which stops this process
    if "DICOM" in FORMATS:
        import_module("pydicom.pixels.utils")  # half a second, which is not a file's
    _limit_memory(MEMORY + MEMORY_PER_PIXEL * max_pixels)
    pipe.send(True)
    with contextlib.suppress(EOFError, OSError):
        while True:
            name, data, page = pipe.recv()
            _limit_computing(seconds)
            try:
                pipe.send(decode_upload(name, data, page, max_pixels=max_pixels, reading=reading))
            except RequestError as error:
                pipe.send((error.status, error.problem.error, error.problem.detail))
            except MemoryError:  # in decoding, or in copying the pixels before the first byte is sent
                pipe.send((422, "too_costly", f"{name}: decoding it takes too much memory"))


def _limit_memory(size: int) -> None:
    """Let this process take ``size`` more bytes of address space."""
    if sys.platform == "win32":
        return
    import resource

    import psutil

    limit = psutil.Process().memory_info().vms + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _limit_computing(seconds: float) -> None:
    """Let this process compute ``seconds`` more on every core, so that it ends even where its server was killed."""
    if sys.platform == "win32":
        return
    import resource

    limit = math.ceil(time.process_time() + seconds * (os.cpu_count() or 1)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
