"""What a store of runs must be able to do. All arguments are plain values, so that a call can wait in a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Row(TypedDict):
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Run:
    """A run, or one nested in another: a trial of a search, a fold of a training.

    Attributes:
        key: our own name of it, the same in every store and for a training that is resumed.
        parent: key of the run that it belongs to.
        begun: milliseconds since 1970.
    """

    key: str
    name: str
    experiment: str
    begun: int
    parent: str | None = None


class Unavailable(Exception):
    """A store that cannot be opened at all."""


class Tracker(Protocol):
    """Calls other than ``start`` name a run by its key. A call may come twice: the second changes nothing."""

    title: str
    """For people: "mlflow"."""

    def failures(self) -> tuple[type[Exception], ...]:
        """What a store that is locked, full, unreachable or damaged may raise."""

    def refuses(self, error: Exception) -> bool:
        """Whether a failure is for good: the store works and does not want this."""

    def start(self, run: Run) -> None:
        """Begins the run, or goes on with it where the store has it."""

    def where(self, run: Run) -> str:
        """The run, and what shows it."""

    def params(self, run: str, values: dict[str, Any]) -> None: ...

    def tags(self, run: str, values: dict[str, str]) -> None: ...

    def metrics(self, run: str, rows: list[Row], at: int) -> None:
        """``at``: milliseconds since 1970."""

    def artifact(self, run: str, path: str, folder: str) -> None:
        """A file, or a folder with all that is in it."""

    def figure(self, run: str, path: str) -> None: ...

    def model(self, run: str, path: str, name: str) -> None:
        """A folder as mlflow saves models."""

    def finish(self, run: str, status: Status) -> None: ...


def public(text: str) -> str:
    """The text without user names and passwords in addresses."""
    return re.sub(r"//[^/@\s]+@", "//", text)
