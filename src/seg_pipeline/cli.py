"""This project's `kedro run`: lists in `--params`, and one-line errors where Kedro prints a traceback."""

from collections.abc import Iterator
from typing import Any

import click


class _LazyGroup(click.Group):
    """Imports Kedro's command only when it is used, because `kedro --version` imports this module too."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return ["run"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        return run_command() if cmd_name == "run" else None


cli = _LazyGroup("seg_pipeline")


def run_command() -> click.Command:
    from copy import copy

    from kedro.framework.cli.project import run

    params = [copy(param) for param in run.params]
    next(param for param in params if param.name == "params").callback = read_params

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
            if not (lines := list(_unknown_names(options))):
                if "after applying all provided filters" not in str(error):
                    raise
                lines = ["no node matches all of these options; leave one out"]
            raise UserError("\n".join(lines)) from error

    return click.Command("run", params=params, callback=callback, help=run.help)


def read_params(ctx: click.Context | None, param: click.Parameter | None, value: Any) -> dict[str, Any]:  # noqa: ARG001
    """Parse ``--params`` as Kedro does, but accept commas in lists, and text that is not YAML (``*.png``)."""
    from omegaconf import OmegaConf
    from yaml import YAMLError

    from seg_pipeline.hooks.errors import UserError

    if isinstance(value, dict):  # from --config
        return value
    if any("\udc80" <= letter <= "\udcff" for letter in value or ""):  # bytes that the locale cannot decode
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
    """Split at commas outside brackets, braces and quotes: "a=[1,2],b=3" has two items."""
    items: list[str] = []
    for piece in text.split(","):
        if items and _is_unclosed(items[-1]):
            items[-1] += f",{piece}"
        else:
            items.append(piece)
    return [item.strip() for item in items if item.strip()]


def _is_unclosed(item: str) -> bool:
    value = item.partition("=")[2].strip()
    pairs = {"[": "[]", "{": "{}", '"': '"'}
    marks = pairs.get(value[:1])
    if marks is None:
        return False
    return value.count(marks) % 2 == 1 if marks == '"' else value.count(marks[0]) > value.count(marks[1])


def _unknown_names(options: dict[str, Any]) -> Iterator[str]:
    """One line per name in the options that no pipeline of the run has, with similar names."""
    from difflib import get_close_matches

    from kedro.framework.project import pipelines

    requested = [options["pipeline"]] if options["pipeline"] else options["pipelines"] or ["__default__"]
    selected = [pipelines[name] for name in requested if name in pipelines]
    nodes = {node.name for pipeline in selected for node in pipeline.nodes}
    data = {name for pipeline in selected for name in pipeline.datasets()}
    tags = {tag for pipeline in selected for node in pipeline.nodes for tag in node.tags}
    namespaces = {node.namespace for pipeline in selected for node in pipeline.nodes if node.namespace}
    for option, kind, known in (
        ("node_names", "node", nodes),
        ("from_nodes", "node", nodes),
        ("to_nodes", "node", nodes),
        ("from_inputs", "data set", data),
        ("to_outputs", "data set", data),
        ("tags", "tag", tags),
        ("namespaces", "namespace", namespaces),
    ):
        for name in options[option] or ():
            if name not in known:
                similar = [
                    *get_close_matches(name, known, 3, 0.5),
                    *(other for other in known if other.endswith(f".{name}")),
                ]
                flag = "--nodes" if option == "node_names" else f"--{option.replace('_', '-')}"
                hint = f"similar: {', '.join(dict.fromkeys(similar))}" if similar else f"available: {_shortened(known)}"
                yield f"{flag} {name}: no such {kind} in {', '.join(requested)}; {hint}"


def _shortened(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if listed[8:] else "")
