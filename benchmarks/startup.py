"""Kedro commands in this project (a) and in a bare Kedro project (b). You wait no longer than in an empty project.

Bare is what `kedro new --tools=none` writes: no pipeline, no hook, no parameter. So the limit is for all that this
project adds to a command, the import of its ten pipelines included. Both are whole processes of one interpreter with
the same packages and plugins, in turns.
"""

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import Result, compare, report

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {"kedro_version": ["--version"], "kedro_registry_list": ["registry", "list"]}
LIMIT = 1.3


def measure(runs: int = 11) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        bare = make_bare_project(Path(folder))
        return [
            compare(
                name,
                functools.partial(kedro, command, ROOT),
                functools.partial(kedro, command, bare),
                limit=LIMIT,
                runs=runs,
                note=f"`kedro {' '.join(command)}`",
            )
            for name, command in COMMANDS.items()
        ]


def make_bare_project(folder: Path) -> Path:
    kedro(["new", "--name=Bare", "--tools=none", "--example=n", "--telemetry=no"], folder)
    return folder / "bare"


def kedro(arguments: list[str], project: Path) -> str:
    """What a command prints. Reports of usage are off: they would measure the network."""
    quiet = {"KEDRO_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    command = [sys.executable, "-m", "kedro", *arguments]
    done = subprocess.run(
        command, cwd=project, env={**os.environ, **quiet}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode} in {project}: {done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(report(*measure()))
