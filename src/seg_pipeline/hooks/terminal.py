"""Show a run's progress: one line per node and per finished pipeline, in colour in a terminal, else plain."""

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

SLOW_NODE_SECONDS = 1.0


class TerminalHooks:
    """Log "3/50 eda.plot_samples" per node, and per pipeline "eda finished in 12.3 s" with its slowest nodes.

    conf/logging.yml silences Kedro's own three lines per node.
    """

    def __init__(self) -> None:
        self._number = self._total = 0
        self._stage, self._stage_start = "", 0.0
        self._node_starts: list[tuple[str, float]] = []
        """Name and start of each node of the stage."""
        self._remaining: Counter[str] = Counter()
        self._drop_repeated = _DropRepeated()

    @hook_impl
    def after_context_created(self) -> None:
        if has_colour():
            colour_logs()

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        vars(pipeline)["nodes"] = in_natural_order(pipeline)  # Kedro caches its own order there
        self._number, self._total, self._stage = 0, len(pipeline.nodes), ""
        self._remaining = Counter(map(namespace_of, pipeline.nodes))
        self._drop_repeated.seen.clear()
        for handler in logging.getLogger().handlers:
            if isinstance(handler, ColourHandler) or getattr(handler, "stream", None) is sys.stderr:
                handler.addFilter(self._drop_repeated)  # adding it again changes nothing

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        now = time.monotonic()
        self._enter_stage(namespace_of(node), now)
        self._node_starts.append((node.short_name, now))
        self._remaining[self._stage] -= 1
        self._number += 1
        log.info("%*d/%d %s", len(str(self._total)), self._number, self._total, node.name)

    @hook_impl(tryfirst=True)  # before the summary
    def after_pipeline_run(self) -> None:
        self._enter_stage("", time.monotonic())

    def _enter_stage(self, stage: str, now: float) -> None:
        """Log how long the previous stage took. (Kedro reports a generator node as finished when it starts.)"""
        if stage == self._stage:
            return
        if self._stage and not self._remaining[self._stage]:  # other runners interleave pipelines
            log.info("%s finished in %s%s", self._stage, duration(now - self._stage_start), self._slowest(now))
        self._stage, self._stage_start, self._node_starts = stage, now, []

    def _slowest(self, now: float) -> str:
        """At most three nodes that took ``SLOW_NODE_SECONDS`` or more, if the stage had several nodes."""
        ends = [*(start for _, start in self._node_starts[1:]), now]
        times = [(end - start, name) for (name, start), end in zip(self._node_starts, ends, strict=True)]
        slow = sorted((node for node in times if node[0] >= SLOW_NODE_SECONDS), reverse=True)[:3]
        return f" ({', '.join(f'{name} {duration(seconds)}' for seconds, name in slow)})" if times[1:] and slow else ""


class _DropRepeated(logging.Filter):
    """Drop lines of this project that the run has already logged, such as those that each trial repeats."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.INFO or not record.name.startswith("seg_pipeline."):
            return True
        attributes = vars(record)  # several handlers see the same record
        if "is_repeated" not in attributes:
            text = record.getMessage()
            attributes["is_repeated"] = text in self.seen
            self.seen.add(text)
        return not attributes["is_repeated"]


def has_colour() -> bool:
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
    """Print one line per message, with its level if WARNING or above. Rich's own handler breaks long paths in two."""

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
