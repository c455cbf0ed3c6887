"""Folders named after classes."""

import itertools
import re
from collections.abc import Sequence


def class_folders(classes: Sequence[str]) -> list[str]:
    """Class names as folder names that every file system accepts, all different, whether it knows case or not.

    Where two would be equal, they get a number; one that is a name of its own already is passed over.
    """
    names = [re.sub(r"[^\w-]", "_", name) for name in classes]
    lower = [name.lower() for name in names]
    taken = {name for name in lower if lower.count(name) == 1}
    return [name if lower.count(name.lower()) == 1 else _numbered(name, taken) for name in names]


def _numbered(name: str, taken: set[str]) -> str:
    """``name`` with the first number that is free, which is then taken."""
    free = next(f"{name}_{number}" for number in itertools.count(1) if f"{name}_{number}".lower() not in taken)
    taken.add(free.lower())
    return free
