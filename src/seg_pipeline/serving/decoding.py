"""Decode uploads, optionally in separate processes, so that a hostile file may crash a process but not the server.

A thread cannot be stopped and shares the server's memory; a process can be killed, and the system limits its memory and
CPU time.
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
"""Bytes that decoding may take in addition."""
START_SECONDS = 60.0
"""Maximum time for a process to start."""

Decode = Callable[[str, bytes, int | None], DecodedUpload]
"""Takes the name and contents of a file, and the page to decode, counted from 1."""


def decode_upload(
    name: str, data: bytes, page: int | None = None, *, max_pixels: int, reading: ReadSettings
) -> DecodedUpload:
    """Check and decode a file in this process.

    Raises:
        RequestError: raised by ``check_upload`` and ``ImageUpload.decode``.
    """
    return check_upload(name, data, max_pixels=max_pixels, page=page).decode(reading)


class DecodingProcesses:
    """``decode_upload`` in processes with limits on memory and time; a process that exceeds them is replaced.

    Args:
        number: number of processes, and so of files decoded at the same time.
        seconds: maximum time per file.
    """

    def __init__(self, *, number: int, seconds: float, max_pixels: int, reading: ReadSettings) -> None:
        self._seconds, self._process_args, self._closed = seconds, (max_pixels, reading, seconds), False
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all = [_Process(*self._process_args) for _ in range(number)]
        for process in self._all:
            self._idle.put(process)

    def __call__(self, name: str, data: bytes, page: int | None = None) -> DecodedUpload:
        """Decode a file. Blocks the calling thread; thread-safe.

        Raises:
            RequestError: raised by ``decode_upload``; 422, the file takes too long or too much memory.
        """
        process = self._idle.get()
        try:
            response = process.request((name, data, page), seconds=self._seconds)
        except _LimitError as error:
            process.stop()
            if self._closed:
                raise RequestError(503, "stopping", "the server is stopping", {"Retry-After": "5"}) from None
            self._all.remove(process)
            process = _Process(*self._process_args)
            self._all.append(process)
            raise RequestError(422, "too_costly", f"{name}: {error}") from None
        finally:
            self._idle.put(process)
        if isinstance(response, tuple):
            raise RequestError(*response)
        return response

    def wait(self) -> None:
        """Wait until all processes have started. Raises RuntimeError if one does not."""
        for process in self._all:
            process.wait()

    def close(self) -> None:
        """Stop all processes immediately, even while they decode."""
        self._closed = True
        for process in self._all:
            process.kill()


class _LimitError(Exception):
    """A process died, or took too long."""


class _Process:
    def __init__(self, *args: Any) -> None:
        context = get_context("spawn")  # a fork would copy the server's locks and memory
        self._pipe, child_pipe = context.Pipe()
        self._process = context.Process(target=_run_process, args=(child_pipe, *args), daemon=True, name="decode")
        self._process.start()
        child_pipe.close()
        self._ready, self._starting = False, threading.Lock()

    def wait(self) -> None:
        with self._starting:
            if not self._ready:
                self._receive(START_SECONDS)
                self._ready = True

    def request(self, task: tuple[str, bytes, int | None], *, seconds: float) -> Any:
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
        """End the process; may be called while another thread waits for a response."""
        self._process.kill()
        self._process.join()

    def stop(self) -> None:
        self.kill()
        self._pipe.close()


def _run_process(pipe: Connection, max_pixels: int, reading: ReadSettings, seconds: float) -> None:
    """Decode files received from the pipe until the server closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which stops this process
    if "DICOM" in FORMATS:
        import_module("pydicom.pixels.utils")  # takes half a second, which must not count towards a file's time
    _limit_memory(MEMORY + MEMORY_PER_PIXEL * max_pixels)
    pipe.send(True)
    with contextlib.suppress(EOFError, OSError):
        while True:
            name, data, page = pipe.recv()
            _limit_cpu_time(seconds)
            try:
                pipe.send(decode_upload(name, data, page, max_pixels=max_pixels, reading=reading))
            except RequestError as error:
                pipe.send((error.status, error.problem.error, error.problem.detail))
            except MemoryError:  # in decoding, or in copying the pixels before the first byte is sent
                pipe.send((422, "too_costly", f"{name}: decoding it takes too much memory"))


def _limit_memory(size: int) -> None:
    """Allow this process ``size`` more bytes of address space."""
    if sys.platform == "win32":
        return
    import resource

    import psutil

    limit = psutil.Process().memory_info().vms + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _limit_cpu_time(seconds: float) -> None:
    """Allow ``seconds`` more CPU time on every core, so that the process ends even if its server was killed."""
    if sys.platform == "win32":
        return
    import resource

    limit = math.ceil(time.process_time() + seconds * (os.cpu_count() or 1)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
