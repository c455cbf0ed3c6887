"""Errors meant for the user end a run as one message; all others keep their traceback."""

from __future__ import annotations

import dis
import logging
import os
import sys
import traceback

import click
from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError
from kedro.runner import Task

log = logging.getLogger(__name__)

TRACEBACK_SWITCH = "SEG_PIPELINE_TRACEBACK"
PACKAGE = __name__.partition(".")[0]
RUNNERS = [f"kedro.runner.{name}_runner" for name in ("sequential", "thread", "parallel")]


class UserError(click.ClickException, ValueError):
    """Its text says all: `kedro` prints it without a traceback and exits with 1; code sees a ValueError."""


class ErrorHooks:
    """With SEG_PIPELINE_TRACEBACK=1, every error keeps its traceback."""

    @hook_impl
    def after_context_created(self) -> None:
        logging.getLogger("kedro.pipeline.node").addFilter(_is_news)
        for name in RUNNERS:
            logging.getLogger(name).addFilter(_helps)

    @hook_impl(trylast=True)  # it raises, and hooks after it would not be called
    def on_pipeline_error(self, error: Exception) -> None:
        text = text_for_user(error)
        if text is None or os.environ.get(TRACEBACK_SWITCH):
            return
        log.debug("The run failed", exc_info=error)
        node = _failed_node(error)
        raise UserError(
            f"{f'node {node}: ' if node else ''}{text}\n({TRACEBACK_SWITCH}=1 shows where in the code.)"
        ) from error


def text_for_user(error: BaseException) -> str | None:
    """An error's text, where that alone tells the user what to do; None for the unexpected.

    Such are errors that this package raises by a ``raise`` of its own, and those of data that cannot be read
    or written. A ValueError out of numpy or torch is not: it speaks of our code, not of the user's input.
    """
    wrapped = isinstance(error, DatasetError)
    root = error
    while isinstance(root, DatasetError) and root.__cause__ is not None:
        root = root.__cause__
    if isinstance(root, ValueError | RuntimeError) and _is_raised_here(root):
        return str(root)
    return str(error) if wrapped and isinstance(root, DatasetError | OSError | ValueError) else None


def _is_raised_here(error: BaseException) -> bool:
    """Whether the error was born in a ``raise`` statement of this package."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    module = last.tb_frame.f_globals.get("__name__", "")
    operation = last.tb_frame.f_code.co_code[last.tb_lasti]
    return module.partition(".")[0] == PACKAGE and operation == dis.opmap["RAISE_VARARGS"]


def _failed_node(error: Exception) -> str | None:
    """Name of the node that an error passed through; unknown where that was in another process."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(task := frame.f_locals.get("self"), Task):
            return task.node.name
    return None


def _is_news(record: logging.LogRecord) -> bool:
    """Drops Kedro's line on a failed node where the run ends with the same text."""
    error = sys.exc_info()[1]
    return record.levelno < logging.ERROR or error is None or text_for_user(error) is None


def _helps(record: logging.LogRecord) -> bool:
    """Drops Kedro's advice to try again, where the first node failed: the error says what to do."""
    return not record.getMessage().startswith("No nodes ran")
