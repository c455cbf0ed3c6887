"""Interface of a tracking store. All arguments are JSON values, so that a journal can hold a call."""

import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Row(TypedDict):
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Run:
    """A run, or a nested run: a trial of a search, a fold of cross-validation.

    Attributes:
        key: our own id, the same in every store and in a resumed training.
        begun: start time in milliseconds since 1970.
        parent: key of the run that a nested run belongs to.
    """

    key: str
    name: str
    experiment: str
    begun: int
    parent: str | None = None


class Unavailable(Exception):
    """The store cannot be opened."""


class Tracker(Protocol):
    """Base of the stores. All calls except ``start`` take the key of a run. Repeating a call must change nothing."""

    title: str
    """Name in messages, such as "mlflow"."""

    def failures(self) -> tuple[type[Exception], ...]:
        """Exceptions that a locked, full, unreachable or damaged store may raise."""
        return OSError, Unavailable

    def refuses(self, error: Exception) -> bool:  # noqa: ARG002
        """Whether the store rejected the call, so that a retry is pointless."""
        return False

    def start(self, run: Run) -> None:
        """Start the run, or resume it if the store has it."""

    def lost(self, error: Exception) -> bool:  # noqa: ARG002
        """Whether the store no longer has the run, for example because its database was replaced."""
        return False

    def where(self, run: Run) -> str:
        """One line with the run and the command or address that shows it."""

    def params(self, run: str, values: dict[str, Any]) -> None: ...

    def tags(self, run: str, values: dict[str, str]) -> None: ...

    def metrics(self, run: str, rows: list[Row], at: int) -> None:
        """``at`` is the time in milliseconds since 1970."""

    def artifact(self, run: str, path: str, folder: str) -> None:
        """Store a file, or a folder with its contents."""

    def figure(self, run: str, path: str) -> None:
        self.artifact(run, path, "figures")

    def image(self, run: str, path: str, name: str, step: int, at: int) -> None:  # noqa: ARG002
        """Store a picture of one step, so that steps and runs can be compared; ``at`` as in ``metrics``."""
        self.figure(run, path)

    def rename(self, run: str, name: str) -> None: ...

    def model(self, run: str, path: str, name: str) -> None:
        """Store a folder in mlflow's model format."""

    def finish(self, run: str, status: Status) -> None: ...


def without_credentials(text: str) -> str:
    """The text without user names and passwords in URLs."""
    return re.sub(r"//[^/@\s]+@", "//", text)
