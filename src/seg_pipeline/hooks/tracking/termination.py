"""The end of a run of which no hook tells: Ctrl-C and SIGTERM."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from seg_pipeline.hooks.tracking.tracker import Status

GRACE = 15.0
"""Seconds that a run has to say that it was killed; its process ends then all the same."""


class Ending:
    """Calls ``finish("KILLED")`` when the process ends before ``forget``: at Ctrl-C, and at a SIGTERM.

    A SIGTERM then ends the process as ever (status 143 in a shell), unless others handle it. To raise an exception
    there instead is no way out: one that flies through torch.save aborts the process.
    """

    def __init__(self, finish: Callable[[Status], None]) -> None:
        self._finish = finish
        self._owner = 0

    def watch(self) -> None:
        self._owner = os.getpid()
        atexit.register(self._finish, "KILLED")
        in_main = threading.current_thread() is threading.main_thread()  # others may not
        if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._end)

    def forget(self) -> None:
        atexit.unregister(self._finish)
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGTERM) == self._end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _end(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  as signal calls it
        if os.getpid() == self._owner:  # not in a worker that was forked from it
            # In a thread: this one may just be sending something, which cannot be broken into.
            last_words = threading.Thread(target=self._finish, args=("KILLED",), daemon=True)
            last_words.start()
            last_words.join(GRACE)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
