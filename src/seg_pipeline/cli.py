"""`kedro run` of this project: lists in `--params`, and one sentence where Kedro answers with a traceback."""

from collections.abc import Iterator
from typing import Any

import click


class _Commands(click.Group):
    """Imports Kedro's command only when it is used: `kedro --version` imports this module too."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return ["run"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        return run_command() if cmd_name == "run" else None


cli = _Commands("seg_pipeline")


def run_command() -> click.Command:
    from copy import copy

    from kedro.framework.cli.project import run

    params = [copy(one) for one in run.params]
    next(one for one in params if one.name == "params").callback = read_params

    def callback(**options: Any) -> Any:
        from omegaconf.errors import OmegaConfBaseException

        from seg_pipeline.hooks.errors import UserError, config_error_text

        try:
            return run.callback(**options)  # type: ignore[misc]
        except UserError:
            raise
        except OmegaConfBaseException as error:
            raise UserError(config_error_text(error)) from error
        except ValueError as error:
            if not (lines := list(_unknown(options))):
                if "after applying all provided filters" not in str(error):
                    raise
                lines = ["no node fits all of these options together; leave one out"]
            raise UserError("\n".join(lines)) from error

    return click.Command("run", params=params, callback=callback, help=run.help)


def read_params(ctx: click.Context | None, param: click.Parameter | None, value: Any) -> dict[str, Any]:  # noqa: ARG001
    """As Kedro reads ``--params``, except that a list may hold commas and a text need not be YAML (``*.png``)."""
    from omegaconf import OmegaConf
    from yaml import YAMLError

    from seg_pipeline.hooks.errors import UserError

    if isinstance(value, dict):  # from --config
        return value
    if any("\udc80" <= letter <= "\udcff" for letter in value or ""):  # bytes that the locale's encoding does not know
        raise UserError(
            f"--params: {value.encode('utf-8', 'surrogateescape').decode(errors='replace')!r} has characters that this "
            "locale (LC_ALL, LANG) cannot read; set PYTHONUTF8=1 before the command, or use a UTF-8 locale"
        )
    config = OmegaConf.create()
    for item in split_params(value or ""):
        key, equals, text = (part.strip() for part in item.partition("="))
        if not key or not equals:
            raise UserError(
                f"--params: {item!r} must be KEY=VALUE, such as `--params training.fit.epochs=5,"
                "training.input.size=[96,128]` (quote a value with spaces)"
            )
        try:
            config.merge_with_dotlist([f"{key}={text}"])
        except YAMLError:
            OmegaConf.update(config, key, text)
    return OmegaConf.to_container(config)  # type: ignore[return-value]


def split_params(text: str) -> list[str]:
    """The items between commas, except those in brackets, braces or quotes: "a=[1,2],b=3" has two."""
    items: list[str] = []
    for piece in text.split(","):
        if items and _is_open(items[-1]):
            items[-1] += f",{piece}"
        else:
            items.append(piece)
    return [item.strip() for item in items if item.strip()]


def _is_open(item: str) -> bool:
    value = item.partition("=")[2].strip()
    pairs = {"[": "[]", "{": "{}", '"': '"'}
    marks = pairs.get(value[:1])
    if marks is None:
        return False
    return value.count(marks) % 2 == 1 if marks == '"' else value.count(marks[0]) > value.count(marks[1])


def _unknown(options: dict[str, Any]) -> Iterator[str]:
    """A line per name among the options that no pipeline of the run has, with the nearest ones."""
    from difflib import get_close_matches

    from kedro.framework.project import pipelines

    asked = [options["pipeline"]] if options["pipeline"] else options["pipelines"] or ["__default__"]
    chosen = [pipelines[name] for name in asked if name in pipelines]
    nodes = {node.name for one in chosen for node in one.nodes}
    data = {name for one in chosen for name in one.datasets()}
    tags = {tag for one in chosen for node in one.nodes for tag in node.tags}
    spaces = {node.namespace for one in chosen for node in one.nodes if node.namespace}
    for option, kind, known in (
        ("node_names", "node", nodes),
        ("from_nodes", "node", nodes),
        ("to_nodes", "node", nodes),
        ("from_inputs", "data set", data),
        ("to_outputs", "data set", data),
        ("tags", "tag", tags),
        ("namespaces", "namespace", spaces),
    ):
        for name in options[option] or ():
            if name not in known:
                near = [*get_close_matches(name, known, 3, 0.5), *(one for one in known if one.endswith(f".{name}"))]
                flag = "--nodes" if option == "node_names" else f"--{option.replace('_', '-')}"
                hint = f"the nearest are {', '.join(dict.fromkeys(near))}" if near else f"there are {_some(known)}"
                yield f"{flag} {name}: there is no such {kind} in {', '.join(asked)}; {hint}"


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if listed[8:] else "")
