"""What the catalog's own classes have in common."""

from pathlib import Path
from typing import Any, get_args

from seg_pipeline.segmentation.images.remote import is_remote


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


def local_path(filepath: str, what: str) -> Path:
    """The path of an entry that reads local files only.

    Raises:
        ValueError: it is an address.
    """
    if is_remote(filepath):
        raise ValueError(
            f"filepath: {filepath} is an address, and {what} are read from local files only; copy the folder to this "
            "machine, for example with `aws s3 sync`, or mount it"
        )
    return Path(filepath)
