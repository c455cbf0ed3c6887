"""`seg-pipeline`: an exported model at work (`predict`, `serve`), or the installed package's `kedro run`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

COMMANDS = {
    "predict": ("seg_pipeline.commands.predict", "masks of new images with an exported model"),
    "serve": ("seg_pipeline.serving.command", "an exported model behind a web page and an API"),
}
"""Module whose ``main(argv)`` returns the exit code, and what it does. They import neither Kedro nor torch."""


def main(*args: Any, **kwargs: Any) -> Any:
    """From a shell: a command of ``COMMANDS``, or else the options of `kedro run`; exits with their status."""
    given = list(args[0]) if args else sys.argv[1:]
    if given and given[0] in COMMANDS:
        sys.exit(importlib.import_module(COMMANDS[given[0]][0]).main(given[1:]))
    if given in (["--help"], ["-h"]):
        print(_commands())
    return _kedro_run(*args, **kwargs)


def _commands() -> str:
    lines = [f"  seg-pipeline {name:<8} {about}; see --help" for name, (_, about) in COMMANDS.items()]
    return "\n".join(["Commands that need neither Kedro nor torch:", *lines, "All else is `kedro run`:\n"])


def _kedro_run(*args: Any, **kwargs: Any) -> Any:
    """Outside a checkout it needs `--conf-source PATH`."""
    from kedro.framework.cli.utils import find_run_command
    from kedro.framework.project import configure_project

    package = Path(__file__).parent.name
    configure_project(package)
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")  # a notebook or shell must survive the end of a run
    return find_run_command(package)(*args, **kwargs)


if __name__ == "__main__":
    main()
