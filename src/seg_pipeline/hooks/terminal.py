"""Progress of a run: a line per node and per finished pipeline, coloured in a terminal, plain in files and CI logs."""

import logging
import os
import sys
import time
import traceback
from collections import Counter

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Node, Pipeline

from seg_pipeline.hooks.run_info import duration
from seg_pipeline.pipeline_registry import in_natural_order, namespace_of

log = logging.getLogger(__name__)


WORTH_NAMING = 1.0


class TerminalHooks:
    """Logs "3/50 eda.plot_samples", and "eda finished in 12.3 s" after a pipeline, with the times of its longest nodes.

    conf/logging.yml silences Kedro's own three lines per node.
    """

    def __init__(self) -> None:
        self._number = self._of = 0
        self._stage, self._since = "", 0.0
        self._begun: list[tuple[str, float]] = []
        """Name and start of each node of the stage."""
        self._left: Counter[str] = Counter()
        self._repeated = _Repeated()

    @hook_impl
    def after_context_created(self) -> None:
        if in_colour():
            colour_logs()

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        vars(pipeline)["nodes"] = in_natural_order(pipeline)  # Kedro caches its own order there
        self._number, self._of, self._stage = 0, len(pipeline.nodes), ""
        self._left = Counter(map(namespace_of, pipeline.nodes))
        self._repeated.seen.clear()
        for handler in logging.getLogger().handlers:
            if isinstance(handler, ColourHandler) or getattr(handler, "stream", None) is sys.stderr:
                handler.addFilter(self._repeated)  # adding it again changes nothing

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        now = time.monotonic()
        self._enter(namespace_of(node), now)
        self._begun.append((node.short_name, now))
        self._left[self._stage] -= 1
        self._number += 1
        log.info("%*d/%d %s", len(str(self._of)), self._number, self._of, node.name)

    @hook_impl(tryfirst=True)  # before the summary
    def after_pipeline_run(self) -> None:
        self._enter("", time.monotonic())

    def _enter(self, stage: str, now: float) -> None:
        """Say how long the stage took that ends here. (Kedro reports a generator node as finished when it starts.)"""
        if stage == self._stage:
            return
        if self._stage and not self._left[self._stage]:  # other runners interleave pipelines
            log.info("%s finished in %s%s", self._stage, duration(now - self._since), self._longest(now))
        self._stage, self._since, self._begun = stage, now, []

    def _longest(self, now: float) -> str:
        """The nodes that took ``WORTH_NAMING`` seconds or more, at most three, if the stage had several."""
        ends = [*(begun for _, begun in self._begun[1:]), now]
        spent = [(end - begun, name) for (name, begun), end in zip(self._begun, ends, strict=True)]
        slow = sorted((one for one in spent if one[0] >= WORTH_NAMING), reverse=True)[:3]
        return f" ({', '.join(f'{name} {duration(seconds)}' for seconds, name in slow)})" if spent[1:] and slow else ""


class _Repeated(logging.Filter):
    """Drops lines of this project that the run has logged before, such as those that each trial of a search repeats."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.INFO or not record.name.startswith("seg_pipeline."):
            return True
        about = vars(record)  # several handlers see the same record
        if "is_repeated" not in about:
            text = record.getMessage()
            about["is_repeated"] = text in self.seen
            self.seen.add(text)
        return not about["is_repeated"]


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
