"""Folders named after classes."""

import itertools
import re
from collections.abc import Sequence


def class_folders(classes: Sequence[str]) -> list[str]:
    """Class names as unique folder names for every file system, case-sensitive or not.

    Equal names get a number; a numbered name that another class already has is skipped.
    """
    names = [re.sub(r"[^\w-]", "_", name) for name in classes]
    lower = [name.lower() for name in names]
    taken = {name for name in lower if lower.count(name) == 1}
    return [name if lower.count(name.lower()) == 1 else _numbered(name, taken) for name in names]


def _numbered(name: str, taken: set[str]) -> str:
    """``name`` with the first free number; adds it to ``taken``."""
    free = next(f"{name}_{number}" for number in itertools.count(1) if f"{name}_{number}".lower() not in taken)
    taken.add(free.lower())
    return free
