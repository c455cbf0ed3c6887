"""Questions that the folder does not answer, and a record of all that was decided."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def tell(text: str = "") -> None:
    sys.stdout.write(text + "\n")


@dataclass
class Asker:
    """Takes an answer from the options, else from the user where there is one, else the proposal."""

    given: Mapping[str, str | None]
    interactive: bool
    read: Callable[[str], str] = input
    decisions: list[str] = field(default_factory=list)
    """Each decision with its reason, in words."""

    def decide(self, what: str) -> None:
        """Keeps, and tells, what was found or chosen and why."""
        self.decisions.append(what)
        tell(f"  {what}")

    def choose(self, key: str, question: str, options: Mapping[str, str], proposal: str | None) -> str:
        """One of ``options``, which maps each answer to what it means.

        Raises:
            ValueError: an answer that is no option, or none where there is neither a proposal nor anybody to ask.
        """
        answer = self.given.get(key)
        if answer is None and self.interactive and len(options) > 1:
            answer = self._asked(question, options, proposal)
        answer = proposal if answer is None else answer
        option = "--" + key.replace("_", "-")
        if answer is None:
            listed = "\n".join(f"  {option} {value}: {meaning}" for value, meaning in options.items())
            raise ValueError(f"{question} The data does not tell; say it with\n{listed}")
        if answer not in options:
            raise ValueError(f"{option} must be one of {', '.join(options)}, found {answer!r}")
        return answer

    def _asked(self, question: str, options: Mapping[str, str], proposal: str | None) -> str | None:
        tell(question)
        for value, meaning in options.items():
            tell(f"    {value}: {meaning}" + ("  [proposed]" if value == proposal else ""))
        return self.read("  > ").strip() or None

    def words(self, key: str, question: str, proposal: str) -> str:
        """Free text; an empty answer takes the proposal."""
        answer = self.given.get(key)
        if answer is None and self.interactive:
            answer = self.read(f"{question} [{proposal}] > ").strip()
        return answer or proposal
