"""The `seg-pipeline` command: `predict` and `serve` use an exported model; other options are those of `kedro run`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

COMMANDS = {
    "predict": ("seg_pipeline.commands.predict", "predict masks of new images with an exported model"),
    "serve": ("seg_pipeline.serving.command", "serve an exported model as a web page and an API"),
}
"""Module and help per command. ``main(argv)`` returns the exit code; the modules import neither Kedro nor torch."""


def main(*args: Any, **kwargs: Any) -> Any:
    """Run a command of ``COMMANDS``, or else `kedro run` with the given options; exits with its status."""
    given = list(args[0]) if args else sys.argv[1:]
    if given and given[0] in COMMANDS:
        sys.exit(importlib.import_module(COMMANDS[given[0]][0]).main(given[1:]))
    if given in (["--help"], ["-h"]):
        print(_commands())
    return _kedro_run(*args, **kwargs)


def _commands() -> str:
    lines = [f"  seg-pipeline {name:<8} {about} (seg-pipeline {name} --help)" for name, (_, about) in COMMANDS.items()]
    return "\n".join(["Commands:", *lines, "Other options are those of `kedro run`:\n"])


def _kedro_run(*args: Any, **kwargs: Any) -> Any:
    """`kedro run` of the installed package; outside a checkout it needs `--conf-source PATH`."""
    from kedro.framework.cli.utils import find_run_command
    from kedro.framework.project import configure_project

    package = Path(__file__).parent.name
    configure_project(package)
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")  # a notebook or shell must survive the end of a run
    return find_run_command(package)(*args, **kwargs)


if __name__ == "__main__":
    main()
