"""Show progress: a bar in a terminal, otherwise lines in the log at increasing intervals."""

import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

log = logging.getLogger(__name__)

FIRST_LINE, RAREST_LINE = 5.0, 60.0
"""Seconds until the first log line, and between lines after some minutes."""


class LogLines(tqdm):
    """Logs lines such as "scoring: 120 of 480 images, 00:21 left" instead of drawing a bar."""

    monitor_interval = 0  # no thread that redraws

    def __iter__(self) -> Iterator[Any]:  # tqdm's own miscounts if the interval changes
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:  # noqa: ARG002
        if text := str(self) if msg is None else msg:
            log.info("%s", text)
            self.mininterval: float = min(2 * self.mininterval, RAREST_LINE)
        return True


def progress_bar(
    items: Any = None, *, title: str, unit: str, total: int | None = None, hidden: bool = False, initial: int = 0
) -> tqdm:
    """Progress over the items, or advanced by calls of ``update``; ``unit`` is a plural such as "images"."""
    common = {"desc": title, "total": total, "disable": hidden, "leave": False, "initial": initial}
    if sys.stderr.isatty():
        return tqdm(items, unit=f" {unit}", **common)
    line_format = f"{{desc}}: {{n_fmt}} of {{total_fmt}} {unit}, {{remaining}} left{{postfix}}"
    log_options = {"file": io.StringIO(), "delay": FIRST_LINE, "mininterval": FIRST_LINE, "miniters": 1}
    return LogLines(items, bar_format=line_format, **log_options, **common)
