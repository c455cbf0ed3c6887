"""What the catalog's own classes have in common."""

from typing import Any, get_args


class Described:
    """Mixin for a data set whose description, as Kedro shows it, is what the catalog says."""

    _init_args: dict[str, Any]

    def _describe(self) -> dict[str, Any]:
        return {name: value for name, value in self._init_args.items() if name != "metadata"}


def check_choices(*choices: tuple[str, Any, Any]) -> None:
    """Raise ValueError for an argument, given by name and value, that is none of those of a ``Literal``."""
    for name, given, known in choices:
        if given not in get_args(known):
            raise ValueError(f"`{name}` must be {' or '.join(get_args(known))}, found {given!r}")
