"""Code shared by this project's catalog classes."""

from pathlib import Path
from typing import Any, get_args

from seg_pipeline.segmentation.images.remote import exists_remote, is_remote

FETCHED = "data/02_intermediate/fetched"
"""Default folder for copies of remote files."""


class Described:
    """Mixin for datasets that Kedro describes by their arguments in the catalog."""

    _init_args: dict[str, Any]

    def _describe(self) -> dict[str, Any]:
        return {name: value for name, value in self._init_args.items() if name != "metadata"}


def check_choices(*choices: tuple[str, Any, Any]) -> None:
    """Raise ValueError if the value of an argument (name, value, ``Literal`` type) is not one of the literals."""
    for name, value, literal in choices:
        if value not in get_args(literal):
            raise ValueError(f"`{name}` must be {' or '.join(get_args(literal))}, found {value!r}")


def path_or_address(filepath: str) -> Any:
    """A Path, or a str for an address."""
    return filepath.rstrip("/") if is_remote(filepath) else Path(filepath)


def exists(location: Path | str, *, file: bool = False) -> bool:
    """Whether the folder exists (the file, with ``file``), or anything at the address."""
    if not isinstance(location, Path):
        return exists_remote(location)
    return location.is_file() if file else location.is_dir()
