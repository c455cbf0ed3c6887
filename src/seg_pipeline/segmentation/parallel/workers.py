"""Worker processes that start quickly, and end when the process that started them ends, even if it is killed."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable

PRELOADED = ["seg_pipeline.segmentation.data.loaders", "seg_pipeline.segmentation.training.run"]


def fork_server() -> multiprocessing.context.BaseContext:
    """Context that forks processes from a server that has loaded the training code, but uses no CUDA or threads.

    On Windows, which cannot fork, it starts new processes.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    multiprocessing.set_forkserver_preload(PRELOADED)
    return multiprocessing.get_context("forkserver")


def exit_with_parent(parent: int | None = None, *, stop: Callable[[], bool] = lambda: False) -> None:
    """Start a thread that ends this process when its parent dies, even if killed, or when ``stop`` returns true.

    Args:
        parent: id of the parent, for a process that ``multiprocessing`` did not start. (A fork server's process is a
            child of the server, so its parent's id does not identify the process that requested it.)
    """
    starter = multiprocessing.parent_process()

    def parent_is_alive() -> bool:
        if parent is not None:
            return os.getppid() == parent
        return starter is not None and starter.is_alive()

    def check() -> None:
        while parent_is_alive() and not stop():
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=check, daemon=True).start()
