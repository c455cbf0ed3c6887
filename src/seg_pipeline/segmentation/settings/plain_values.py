"""Settings to plain values, as JSON and checkpoints hold them, and back: types and bounds are checked."""

import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, Union

from annotated_types import Ge, Gt, Le, Lt, MinLen

_WORDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
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
    """Build settings of type ``kind`` from the result of ``to_plain(asdict(...))``; ``name`` is theirs in messages.

    Raises:
        TypeError: a setting is missing, unknown, or of another type or outside its bounds.
        ValueError: settings contradict one another.
    """
    if not isinstance(values, dict):
        raise TypeError(f"`{name}` is {values!r:.80}, expected settings by name")
    hints = typing.get_type_hints(kind, include_extras=True)
    known = {one.name for one in fields(kind)}
    if missing := known - set(values):
        raise TypeError(f"without {', '.join(_joined(name, one) for one in sorted(missing))}")
    if unknown := set(values) - known:
        raise TypeError(f"unknown: {', '.join(sorted(f'{_joined(name, one)}'[:80] for one in unknown))}")
    found = {one: _value(hints[one], value, _joined(name, one)) for one, value in values.items()}
    try:
        return kind(**found)
    except ValueError as error:
        raise ValueError(f"`{name}`: {error}" if name else str(error)) from None


def _joined(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, given = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint):
        return from_plain(hint, value, name)  # type: ignore[arg-type]
    if origin is dict and isinstance(value, dict):
        return {_value(given[0], key, name): _value(given[1], one, f"{name}.{key!s:.40}") for key, one in value.items()}
    if not _fits(hint, value):
        raise TypeError(f"`{name}` is {value!r:.80}, expected {' or '.join(_described(hint))}")
    return tupled(value)


def _fits(hint: Any, value: Any) -> bool:
    origin, given = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        fits = any(_fits(one, value) for one in given)
    elif origin is Annotated:
        fits = _fits(given[0], value) and all(
            holds(value, bound) for bound in given[1:] for kind, holds, _ in _BOUNDS if isinstance(bound, kind)
        )
    elif origin is Literal:
        fits = any(type(one) is type(value) and one == value for one in given)
    elif origin is dict:
        fits = isinstance(value, dict) and all(
            _fits(given[0], key) and _fits(given[1], one) for key, one in value.items()
        )
    elif origin is tuple:
        fits = isinstance(value, tuple | list)
        parts = [given[0]] * len(value) if fits and given[-1] is Ellipsis else given
        fits = fits and len(parts) == len(value) and all(map(_fits, parts, value))
    elif hint is float:
        fits = type(value) in (int, float) and abs(value) <= sys.float_info.max  # neither NaN nor infinite
    else:
        fits = type(value) is hint if hint in _WORDS else value is None
    return fits


def _described(hint: Any) -> Iterator[str]:
    origin, given = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        for one in given:
            yield from _described(one)
    elif origin is Annotated:
        bounds = [words.format(bound) for bound in given[1:] for kind, _, words in _BOUNDS if isinstance(bound, kind)]
        yield ", ".join([" or ".join(_described(given[0])), *bounds])
    elif origin is Literal:
        yield from map(str, given)
    elif origin is tuple:
        yield "a list" if given[-1] is Ellipsis else f"a list of {len(given)} values"
    else:
        yield _WORDS.get(hint, "values by name" if origin is dict else "null")


def tupled(value: Any) -> Any:
    """Convert lists to tuples."""
    return tuple(tupled(part) for part in value) if isinstance(value, list) else value
