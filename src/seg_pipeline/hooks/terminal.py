"""What a run says while it goes: a line a node; in colour where a person looks, plain in a file or a CI's log."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Node, Pipeline

log = logging.getLogger(__name__)


class TerminalHooks:
    """Kedro's own three lines a node, with the names of all its inputs, are silenced in conf/logging.yml."""

    def __init__(self) -> None:
        self._number = self._of = 0

    @hook_impl
    def after_context_created(self) -> None:
        if in_colour():
            colour_logs()

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        self._number, self._of = 0, len(pipeline.nodes)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        self._number += 1
        log.info("%*d/%d %s", len(str(self._of)), self._number, self._of, node.name)


def in_colour() -> bool:
    """Whether standard error is a terminal that shows colours, and nobody asked for none (no-color.org)."""
    refused = os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb"
    return not refused and sys.stderr.isatty()


def colour_logs() -> None:
    """Gives the root's handler of standard error, which conf/logging.yml made, colours."""
    handlers = logging.getLogger().handlers
    for handler in handlers:
        if type(handler) is logging.StreamHandler and handler.stream is sys.stderr:
            handlers[handlers.index(handler)] = ColourHandler(handler.level)


class ColourHandler(logging.Handler):
    """A line a message, its level only where it is a warning. Rich's own handler breaks long paths in two."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        style = "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else ""
        if record.name == __name__:
            style = "bold cyan"
        text = Text.assemble((time.strftime("%H:%M:%S ", time.localtime(record.created)), "dim"))
        text.append(f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else "", style)
        text.append(record.getMessage(), style)
        if record.exc_info:
            text.append("\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip())
        self._console.print(text, soft_wrap=True)
