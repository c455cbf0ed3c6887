"""Runs the installed package outside a checkout: `seg-pipeline --conf-source PATH`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*args: Any, **kwargs: Any) -> Any:
    """Takes the options of `kedro run`; from a shell it exits with the run's status."""
    package = Path(__file__).parent.name
    configure_project(package)
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")  # a notebook or shell must survive the end of a run
    return find_run_command(package)(*args, **kwargs)


if __name__ == "__main__":
    main()
