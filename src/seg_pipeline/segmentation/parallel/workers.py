"""Worker processes that end with the process that started them, even if it is killed."""

import os
import threading
import time
from collections.abc import Callable


def exit_with_parent(parent: int, *, stop: Callable[[], bool] = lambda: False) -> None:
    """Start a thread that ends this process once its parent has died, even if killed, or ``stop`` returns true."""

    def check() -> None:
        while os.getppid() == parent and not stop():
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=check, daemon=True).start()
