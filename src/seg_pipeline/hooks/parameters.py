"""Checks before a run that every parameter has a known name and a valid value."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from seg_pipeline.hooks.errors import UserError, about_config
from seg_pipeline.params.renamed import REMOVED, RENAMED

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from pydantic import BaseModel, ValidationError


class ParameterHooks:
    """Checks every parameter key; Kedro itself checks only those that the requested pipelines read."""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        from seg_pipeline.params import Parameters

        try:
            given = context.config_loader["parameters"]
        except MissingConfigException as error:
            raise UserError(_missing_config(Path(context.config_loader.conf_source), context.env, error)) from error
        except OmegaConfBaseException as error:
            raise UserError(about_config(error)) from error
        except (YAMLError, ValueError) as error:
            raise UserError(f"cannot read the parameters: {error}") from error
        check_parameters(given, Parameters)


def _missing_config(conf: Path, env: str | None, error: MissingConfigException) -> str:
    environments = sorted(folder.name for folder in conf.glob("*/")) if conf.is_dir() else []
    if env is None or not environments or env in environments:
        return str(error)
    return f"no environment {env!r} in {conf}; available: {', '.join(environments)}"


def check_parameters(given: dict[str, Any], model: type[BaseModel]) -> None:
    """Raise UserError with one line per wrong key or value."""
    from pydantic import ValidationError

    try:
        model.model_validate(given)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in describe(error, model))
        many = "1 parameter is" if error.error_count() == 1 else f"{error.error_count()} parameters are"
        raise UserError(f"{many} wrong (from conf/ and --params)\n{lines}") from None


def describe(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """One line per wrong parameter: its key, the value found and what is expected."""
    for one in error.errors(include_url=False):
        *parents, last = one["loc"] or ("parameters",)
        where = ".".join(map(str, (*parents, last)))
        if one["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            replaced = f"it is now `{RENAMED[where]}`" if where in RENAMED else REMOVED.get(where)
            remedy = replaced or _nearest(str(last), parents, model)
            yield f"{where}: unknown parameter (found {_short(one['input'])}); {remedy}"
        elif one["type"] == "missing":
            yield f"{where}: missing; set it in conf/base/parameters*.yml or in the environment's parameters"
        elif one["type"] in ("tuple_type", "list_type"):
            yield f"{where}: found {_short(one['input'])}; expected a list, such as `{where}=[{one['input']}]`"
        else:
            expected, found = (
                one["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1),
                one["input"],
            )
            named = re.match(r"`(\w+)`", expected)
            if named and isinstance(found, dict) and named[1] in found:
                where, found = f"{where}.{named[1]}", found[named[1]]
            yield f"{where}: found {_short(found)}; {expected}"


def _nearest(key: str, parents: list[int | str], model: type) -> str:
    known = _keys_below(parents, model)
    prefix = "".join(f"{parent}." for parent in parents)
    if close := difflib.get_close_matches(key, known, n=1):
        return f"did you mean `{prefix}{close[0]}`?"
    if elsewhere := [path for path in _all_paths(model) if path.split(".")[-1] == key]:
        return f"did you mean `{'` or `'.join(elsewhere)}`?"
    return f"valid keys: {', '.join(known)}"


def _keys_below(parents: list[int | str], model: type) -> list[str]:
    """Valid keys next to the wrong one; list indices and union tags in ``parents`` are skipped."""
    models = [model]
    for parent in parents:
        fields = [fields_of(one)[str(parent)] for one in models if str(parent) in fields_of(one)]
        models = [below for annotation in fields for below in _models_in(annotation)] or models
    return [key for one in models for key in fields_of(one)]


def _all_paths(model: type) -> Iterator[str]:
    for key, annotation in fields_of(model).items():
        yield key
        for below in _models_in(annotation):
            yield from (f"{key}.{path}" for path in _all_paths(below))


def fields_of(model: Any) -> dict[str, Any]:
    """Field types of a pydantic model or dataclass, by YAML key."""
    if dataclasses.is_dataclass(model):
        hints = typing.get_type_hints(model, include_extras=True)
        return {field.name: hints[field.name] for field in dataclasses.fields(model)}
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> Iterator[type]:
    from pydantic import BaseModel

    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
