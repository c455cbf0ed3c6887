"""Errors that a user can fix end a run with one message; all others keep their traceback."""

import dis
import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import click
from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError
from kedro.runner import Task

log = logging.getLogger(__name__)

TRACEBACK_SWITCH = "SEG_PIPELINE_TRACEBACK"
PACKAGE = __name__.partition(".")[0]
RUNNERS = [f"kedro.runner.{name}_runner" for name in ("sequential", "thread", "parallel")]


REMEDIES = dict.fromkeys(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "free disk space or set another `data_root`, then repeat the command. Files that were there before are unchanged",
) | dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS),
    "check its permissions, or choose another folder: `data_root` for outputs, `raw_root` for inputs",
)


class UserError(click.ClickException, ValueError):
    """An error that `kedro` prints without a traceback before it exits with 1. Callers in Python get a ValueError."""


@contextmanager
def user_errors(prefix: str = "") -> Iterator[None]:
    """Turn a ValueError of the block into a UserError whose message starts with ``prefix``."""
    try:
        yield
    except ValueError as error:
        if os.environ.get(TRACEBACK_SWITCH):
            raise
        raise UserError(f"{prefix}{error}") from error


class ErrorHooks:
    """Turns errors into a UserError; with SEG_PIPELINE_TRACEBACK=1 every error keeps its traceback."""

    @hook_impl
    def after_context_created(self) -> None:
        logging.getLogger("kedro.pipeline.node").addFilter(_is_not_duplicate)
        for name in RUNNERS:
            logging.getLogger(name).addFilter(_is_not_rerun_advice)

    @hook_impl(trylast=True)  # last, because it raises and no later hook is called
    def on_pipeline_error(self, error: Exception) -> None:
        text = text_for_user(error)
        if text is None or os.environ.get(TRACEBACK_SWITCH):
            return
        log.debug("The run failed", exc_info=error)
        node = _failed_node(error)
        raise UserError(
            f"{f'node {node}: ' if node else ''}{text}\n(Set {TRACEBACK_SWITCH}=1 to see the traceback.)"
        ) from error


def config_error_text(error: Exception) -> str:
    """One line with the key for an OmegaConf error, such as an interpolation that cannot be resolved."""
    key = getattr(error, "full_key", None)
    return f"conf/{f', key `{key}`' if key else ''}: {str(error).splitlines()[0]}"


def text_for_user(error: BaseException) -> str | None:
    """The error's text if it tells the user what to do; None for an unexpected error.

    Errors raised by a ``raise`` statement of this package do, and so do errors about data that cannot be read or
    written. A ValueError from numpy or torch is unexpected: it points to our code, not to the user's input.
    """
    wrapped = isinstance(error, DatasetError)
    root = error
    while isinstance(root, DatasetError) and root.__cause__ is not None:
        root = root.__cause__
    if isinstance(root, OSError) and root.errno in REMEDIES:
        match = re.search(r"filepath=\w*\(?'([^']+)'", str(error))  # pyarrow's errors have no file name
        file = root.filename or (match[1] if match else error)
        return f"{file}: {os.strerror(root.errno)}; {REMEDIES[root.errno]}"
    if isinstance(root, ValueError | RuntimeError) and _is_raised_here(root):
        return str(root)
    return str(error) if wrapped and isinstance(root, DatasetError | OSError | ValueError) else None


def _is_raised_here(error: BaseException) -> bool:
    """Whether a ``raise`` statement of this package raised the error."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    module = last.tb_frame.f_globals.get("__name__", "")
    operation = last.tb_frame.f_code.co_code[last.tb_lasti]
    return module.partition(".")[0] == PACKAGE and operation == dis.opmap["RAISE_VARARGS"]


def _failed_node(error: Exception) -> str | None:
    """Name of the node that raised the error; None if it ran in another process."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(task := frame.f_locals.get("self"), Task):
            return task.node.name
    return None


def _is_not_duplicate(record: logging.LogRecord) -> bool:
    """Drops Kedro's message about a failed node if the run ends with the same text."""
    error = sys.exc_info()[1]
    return record.levelno < logging.ERROR or error is None or text_for_user(error) is None


def _is_not_rerun_advice(record: logging.LogRecord) -> bool:
    """Drops Kedro's advice to run again if the first node failed; the error says what to do."""
    return not record.getMessage().startswith("No nodes ran")
