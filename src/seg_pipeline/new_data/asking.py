"""Ask what the data does not tell, and record all decisions."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def tell(text: str = "") -> None:
    sys.stdout.write(text + "\n")


@dataclass
class Asker:
    """Takes answers from the command line, else from the user if there is a terminal, else the proposal."""

    given: Mapping[str, str | None]
    interactive: bool
    read: Callable[[str], str] = input
    decisions: list[str] = field(default_factory=list)
    """Each decision with its reason, as text."""
    asked: set[str] = field(default_factory=set)
    """Keys of the questions that were asked or answered by an option."""

    def decide(self, what: str) -> None:
        """Record and print what was found or chosen, and why."""
        self.decisions.append(what)
        tell(f"  {what}")

    def choose(self, key: str, question: str, options: Mapping[str, str], proposal: str | None) -> str:
        """One of ``options``, which maps each answer to its meaning; the question says what the data shows.

        Raises:
            ValueError: the answer is not an option, or there is neither an answer nor a proposal.
        """
        answer = self.given.get(key)
        if len(options) == 1:
            return next(iter(options))
        if answer is None and self.interactive:
            answer = self._asked(question, options, proposal)
        answer = proposal if answer is None else answer
        option = "--" + key.replace("_", "-")
        if answer is None:
            listed = "\n".join(f"  {option} {value}: {meaning}" for value, meaning in options.items())
            raise ValueError(f"{question} The data does not tell; add one of\n{listed}")
        if answer not in options:
            raise ValueError(f"{option} must be one of {', '.join(options)}, found {answer!r}")
        return answer

    def _asked(self, question: str, options: Mapping[str, str], proposal: str | None) -> str | None:
        """One of the options, or None for none; asks again after any other answer."""
        tell(f"\n{question}")
        width = max(map(len, options))
        for value, meaning in options.items():
            tell(f"    {value:{width}}  {meaning}" + ("  [proposed]" if value == proposal else ""))
        while True:
            answer = self._read(f"  {' / '.join(options)}" + (f" [{proposal}]" if proposal else "") + " > ")
            if answer is None or answer in options:
                return answer
            tell(f"  {answer!r} is none of these; type one of them" + (", or Enter to accept" if proposal else ""))

    def _read(self, prompt: str) -> str | None:
        """What the user types; None for nothing."""
        try:
            return self.read(prompt).strip() or None
        except EOFError:
            return None

    def words(self, key: str, question: str, proposal: str) -> str:
        """Free text; an empty answer accepts the proposal."""
        self.asked.add(key)
        answer = self.given.get(key)
        if answer is None and self.interactive:
            tell(f"\n{question}")
            answer = self._read(f"  [{proposal}] > ")
        return answer or proposal
