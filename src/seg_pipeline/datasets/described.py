"""What the catalog's own classes have in common."""

from pathlib import Path
from typing import Any, get_args

from seg_pipeline.segmentation.images.remote import exists_remote, is_remote

FETCHED = "data/02_intermediate/fetched"
"""Default folder for copies of what is at addresses."""


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


def path_or_address(filepath: str) -> Any:
    """The path, or the address as text."""
    return filepath.rstrip("/") if is_remote(filepath) else Path(filepath)


def exists(place: Path | str, *, file: bool = False) -> bool:
    """Whether there is a file or a folder of this path, or anything at this address."""
    if not isinstance(place, Path):
        return exists_remote(place)
    return place.is_file() if file else place.is_dir()
