"""Mark a run as killed on Ctrl-C and SIGTERM, for which Kedro calls no hook."""

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from seg_pipeline.hooks.tracking.tracker import Status

MAX_REPORT_SECONDS = 15.0
"""Seconds to report the end to the stores before the process ends anyway."""


class TerminationHandler:
    """Calls ``finish("KILLED")`` if the process ends between ``start`` and ``stop``.

    After a SIGTERM the process still ends by that signal (status 143 in a shell). An existing SIGTERM handler is left
    in place. The handler raises no exception, because one that passes through torch.save aborts the process.
    """

    def __init__(self, finish: Callable[[Status], None]) -> None:
        self._finish = finish
        self._owner = 0

    def start(self) -> None:
        self._owner = os.getpid()
        atexit.register(self._finish, "KILLED")
        in_main = threading.current_thread() is threading.main_thread()  # other threads may not set handlers
        if in_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def stop(self) -> None:
        atexit.unregister(self._finish)
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if os.getpid() == self._owner:  # not in a forked worker
            # In another thread, because this one may be inside a call to a store, which is not reentrant.
            report = threading.Thread(target=self._finish, args=("KILLED",), daemon=True)
            report.start()
            report.join(MAX_REPORT_SECONDS)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
