"""Progress of a run, one line per node: coloured in a terminal, plain in files and CI logs."""

import logging
import os
import sys
import time
import traceback

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Node, Pipeline

log = logging.getLogger(__name__)


class TerminalHooks:
    """Logs "3/50 eda.plot_samples". conf/logging.yml silences Kedro's own three lines per node."""

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
    """Whether standard error is a terminal with colours and NO_COLOR (no-color.org) is not set."""
    refused = os.environ.get("NO_COLOR") or os.environ.get("CI") or os.environ.get("TERM") == "dumb"
    return not refused and sys.stderr.isatty()


def colour_logs() -> None:
    """Replace the root logger's stderr handler, defined in conf/logging.yml, by a coloured one."""
    handlers = logging.getLogger().handlers
    for handler in handlers:
        if type(handler) is logging.StreamHandler and handler.stream is sys.stderr:
            handlers[handlers.index(handler)] = ColourHandler(handler.level)


class ColourHandler(logging.Handler):
    """One line per message, with the level from WARNING on. Rich's own handler breaks long paths into two lines."""

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
