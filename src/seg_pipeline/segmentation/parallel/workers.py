"""Worker processes that start quickly and end with the process that started them, even if it is killed."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable

PRELOADED = ["seg_pipeline.segmentation.data.loaders", "seg_pipeline.segmentation.training.run"]


def fork_server() -> multiprocessing.context.BaseContext:
    """Starts processes as forks of one that has loaded what training needs, but uses neither CUDA nor threads.

    On Windows, which has no forks, they are new processes.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    multiprocessing.set_forkserver_preload(PRELOADED)
    return multiprocessing.get_context("forkserver")


def exit_with_parent(parent: int | None = None, *, stop: Callable[[], bool] = lambda: False) -> None:
    """Start a thread that ends this process once its parent has died, even if killed, or ``stop`` returns true.

    Args:
        parent: process id, for processes that ``multiprocessing`` has not started; those of a fork server are its
            children, and not of the process that asked for them.
    """
    starter = multiprocessing.parent_process()

    def parent_lives() -> bool:
        if parent is not None:
            return os.getppid() == parent
        return starter is not None and starter.is_alive()

    def check() -> None:
        while parent_lives() and not stop():
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=check, daemon=True).start()
