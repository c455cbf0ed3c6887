"""The end of a run of which no hook tells: Ctrl-C and SIGTERM."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from seg_pipeline.hooks.tracking.tracker import Status


class Ending:
    """Calls ``finish("KILLED")`` when the process ends before ``forget``.

    A SIGTERM that nobody else handles then ends the process as an exception does (status 143), so that what is open
    is closed, rather than at once.
    """

    def __init__(self, finish: Callable[[Status], None]) -> None:
        self._finish = finish
        self._owner = 0

    def watch(self) -> None:
        self._owner = os.getpid()
        atexit.register(self._finish, "KILLED")
        in_main = threading.current_thread() is threading.main_thread()  # others may not
        if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._exit)

    def forget(self) -> None:
        atexit.unregister(self._finish)
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGTERM) == self._exit:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _exit(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  as signal calls it
        if os.getpid() != self._owner:  # a worker that was forked from it ends as it would have
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise SystemExit(128 + number)
