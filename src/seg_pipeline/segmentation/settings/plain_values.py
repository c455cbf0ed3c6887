"""Convert settings to plain values, for JSON and checkpoints, and back, with checks of types and bounds."""

import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, Union

from annotated_types import Ge, Gt, Le, Lt, MinLen

_TYPE_NAMES: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_BOUNDS: tuple[tuple[type, Callable[[Any, Any], bool], str], ...] = (
    (Ge, lambda value, bound: value >= bound.ge, "at least {0.ge}"),
    (Gt, lambda value, bound: value > bound.gt, "more than {0.gt}"),
    (Le, lambda value, bound: value <= bound.le, "at most {0.le}"),
    (Lt, lambda value, bound: value < bound.lt, "less than {0.lt}"),
    (MinLen, lambda value, bound: len(value) >= bound.min_length, "at least {0.min_length} values"),
)


def to_plain(value: Any) -> Any:
    """Convert tuples to lists, as in JSON."""
    if isinstance(value, dict):
        return {key: to_plain(part) for key, part in value.items()}
    return [to_plain(part) for part in value] if isinstance(value, tuple | list) else value


def from_plain(kind: type, values: Any, name: str = "") -> Any:
    """Build settings of type ``kind`` from the result of ``to_plain(asdict(...))``; messages call them ``name``.

    Raises:
        TypeError: a setting is missing, unknown, of the wrong type or out of bounds.
        ValueError: settings contradict each other.
    """
    if not isinstance(values, dict):
        raise TypeError(f"`{name}` is {values!r:.80}, expected settings by name")
    hints = typing.get_type_hints(kind, include_extras=True)
    known = {key.name for key in fields(kind)}
    if missing := known - set(values):
        raise TypeError(f"without {', '.join(_dotted(name, key) for key in sorted(missing))}")
    if unknown := set(values) - known:
        raise TypeError(f"unknown: {', '.join(sorted(f'{_dotted(name, key)}'[:80] for key in unknown))}")
    converted = {key: _value(hints[key], value, _dotted(name, key)) for key, value in values.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}" if name else str(error)) from None


def _dotted(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint):
        return from_plain(hint, value, name)  # type: ignore[arg-type]
    if origin is dict and isinstance(value, dict):
        return {
            _value(arguments[0], key, name): _value(arguments[1], item, f"{name}.{key!s:.40}")
            for key, item in value.items()
        }
    if not _fits(hint, value):
        raise TypeError(f"`{name}` is {value!r:.80}, expected {' or '.join(_describe(hint))}")
    return to_tuples(value)


def _fits(hint: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        fits = any(_fits(item, value) for item in arguments)
    elif origin is Annotated:
        fits = _fits(arguments[0], value) and all(
            holds(value, bound) for bound in arguments[1:] for kind, holds, _ in _BOUNDS if isinstance(bound, kind)
        )
    elif origin is Literal:
        fits = any(type(item) is type(value) and item == value for item in arguments)
    elif origin is dict:
        fits = isinstance(value, dict) and all(
            _fits(arguments[0], key) and _fits(arguments[1], item) for key, item in value.items()
        )
    elif origin is tuple:
        fits = isinstance(value, tuple | list)
        parts = [arguments[0]] * len(value) if fits and arguments[-1] is Ellipsis else arguments
        fits = fits and len(parts) == len(value) and all(map(_fits, parts, value))
    elif hint is float:
        fits = type(value) in (int, float) and abs(value) <= sys.float_info.max  # neither NaN nor infinite
    else:
        fits = type(value) is hint if hint in _TYPE_NAMES else value is None
    return fits


def _describe(hint: Any) -> Iterator[str]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        for item in arguments:
            yield from _describe(item)
    elif origin is Annotated:
        bounds = [
            words.format(bound) for bound in arguments[1:] for kind, _, words in _BOUNDS if isinstance(bound, kind)
        ]
        yield ", ".join([" or ".join(_describe(arguments[0])), *bounds])
    elif origin is Literal:
        yield from map(str, arguments)
    elif origin is tuple:
        yield "a list" if arguments[-1] is Ellipsis else f"a list of {len(arguments)} values"
    else:
        yield _TYPE_NAMES.get(hint, "values by name" if origin is dict else "null")


def to_tuples(value: Any) -> Any:
    """Convert lists to tuples."""
    return tuple(to_tuples(part) for part in value) if isinstance(value, list) else value
