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

from seg_pipeline.hooks.errors import UserError, config_error_text
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
            parameters = context.config_loader["parameters"]
        except MissingConfigException as error:
            raise UserError(_missing_config(Path(context.config_loader.conf_source), context.env, error)) from error
        except OmegaConfBaseException as error:
            raise UserError(config_error_text(error)) from error
        except (YAMLError, ValueError) as error:
            raise UserError(f"cannot read the parameters: {error}") from error
        check_parameters(parameters, Parameters)


def _missing_config(conf: Path, env: str | None, error: MissingConfigException) -> str:
    environments = sorted(folder.name for folder in conf.glob("*/")) if conf.is_dir() else []
    if env is None or not environments or env in environments:
        return str(error)
    return f"no environment {env!r} in {conf}; available: {', '.join(environments)}"


def check_parameters(parameters: dict[str, Any], model: type[BaseModel]) -> None:
    """Raise UserError with one line per wrong key or value."""
    from pydantic import ValidationError

    try:
        model.model_validate(parameters)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in describe(error, model))
        count = "1 parameter is" if error.error_count() == 1 else f"{error.error_count()} parameters are"
        raise UserError(f"{count} wrong (from conf/ and --params)\n{lines}") from None


def describe(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """One line per wrong parameter: its key, the value found and what is expected."""
    for details in error.errors(include_url=False):
        *parents, last = details["loc"] or ("parameters",)
        key = ".".join(map(str, (*parents, last)))
        if details["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            replacement = f"it is now `{RENAMED[key]}`" if key in RENAMED else REMOVED.get(key)
            remedy = replacement or _suggestion(str(last), parents, model)
            yield f"{key}: unknown parameter (found {_short(details['input'])}); {remedy}"
        elif details["type"] == "missing":
            yield f"{key}: missing; set it in conf/base/parameters*.yml or in the environment's parameters"
        elif details["type"] in ("tuple_type", "list_type"):
            yield f"{key}: found {_short(details['input'])}; expected a list, such as `{key}=[{details['input']}]`"
        else:
            expected = details["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)
            found = details["input"]
            subkey = re.match(r"`(\w+)`", expected)
            if subkey and isinstance(found, dict) and subkey[1] in found:
                key, found = f"{key}.{subkey[1]}", found[subkey[1]]
            yield f"{key}: found {_short(found)}; {expected}"


def _suggestion(key: str, parents: list[int | str], model: type) -> str:
    known = _valid_keys(parents, model)
    prefix = "".join(f"{parent}." for parent in parents)
    if close := difflib.get_close_matches(key, known, n=1):
        return f"did you mean `{prefix}{close[0]}`?"
    if elsewhere := [path for path in _all_paths(model) if path.split(".")[-1] == key]:
        return f"did you mean `{'` or `'.join(elsewhere)}`?"
    return f"valid keys: {', '.join(known)}"


def _valid_keys(parents: list[int | str], model: type) -> list[str]:
    """Valid keys next to the wrong one; list indices and union tags in ``parents`` are skipped."""
    models = [model]
    for parent in parents:
        fields = [fields_of(one)[str(parent)] for one in models if str(parent) in fields_of(one)]
        models = [nested for annotation in fields for nested in _models_in(annotation)] or models
    return [key for one in models for key in fields_of(one)]


def _all_paths(model: type) -> Iterator[str]:
    for key, annotation in fields_of(model).items():
        yield key
        for nested in _models_in(annotation):
            yield from (f"{key}.{path}" for path in _all_paths(nested))


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
