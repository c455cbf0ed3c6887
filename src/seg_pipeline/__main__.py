"""The `seg-pipeline` command: `run`, `new-data`, `join`, `predict` and `serve`."""

import importlib
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple


class Command(NamedTuple):
    module: str
    """Its ``main(argv)`` returns the exit code; "" for `kedro run`."""
    description: str
    example: str


COMMANDS = {
    "run": Command(
        "",
        "run the pipelines like `kedro run`: from data to a trained, evaluated model and its report",
        "seg-pipeline run --env cells --pipelines training,evaluation --params training.fit.epochs=40",
    ),
    "new-data": Command(
        "seg_pipeline.new_data.command",
        "inspect a folder of images and masks, write its environment conf/NAME/ and test it",
        "seg-pipeline new-data path/to/folder cells",
    ),
    "join": Command(
        "seg_pipeline.commands.join",
        "help train, from another machine, in a `kedro run` with `training.compute.nodes`",
        "seg-pipeline join /shared/jobs",
    ),
    "predict": Command(
        "seg_pipeline.commands.predict",
        "predict masks of new images with an exported model; needs neither Kedro nor torch",
        "seg-pipeline predict photos/ --model data/07_model_output/bundle --out masks",
    ),
    "serve": Command(
        "seg_pipeline.serving.command",
        "serve an exported model as a web page and an API; needs neither Kedro nor torch",
        "seg-pipeline serve --model data/07_model_output/bundle",
    ),
}


def main(*args: Any, **kwargs: Any) -> Any:
    """Run a command of ``COMMANDS``, or else `kedro run` with these options; exits with its status."""
    argv = list(args[0]) if args else sys.argv[1:]
    name = argv[0] if argv else ""
    if name in ("--help", "-h"):
        print(help_text())
        return None
    if name in COMMANDS and COMMANDS[name].module:
        sys.exit(importlib.import_module(COMMANDS[name].module).main(argv[1:]))
    if name and name not in COMMANDS and not name.startswith("-"):
        similar = get_close_matches(name, COMMANDS, 1, 0.4)
        hint = f"did you mean `seg-pipeline {similar[0]}`?" if similar else f"available: {', '.join(COMMANDS)}."
        sys.exit(f"seg-pipeline: no command {name!r}; {hint} `seg-pipeline --help` describes them")
    return _kedro_run(argv[1:] if name == "run" else argv, **kwargs)


def help_text() -> str:
    """All commands, each with an example."""
    lines = [
        f"  {name:<9} {command.description}\n            {command.example}\n" for name, command in COMMANDS.items()
    ]
    return "\n".join(
        [
            "Usage: seg-pipeline COMMAND [OPTIONS]\n",
            *lines,
            "`seg-pipeline COMMAND --help` lists the options of a command. The default command is `run`.",
        ]
    )


def _kedro_run(argv: list[str], **kwargs: Any) -> Any:
    """`kedro run` of the installed package; outside a checkout it needs `--conf-source PATH`."""
    from kedro.framework.project import configure_project

    from seg_pipeline.cli import run_command

    configure_project(Path(__file__).parent.name)
    kwargs["standalone_mode"] = not hasattr(sys, "ps1")  # the end of a run must not end a notebook or shell
    return run_command()(argv, prog_name="seg-pipeline run", **kwargs)


if __name__ == "__main__":
    main()
