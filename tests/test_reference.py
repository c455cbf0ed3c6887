"""docs/parameters.md is what the declarations say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Lt
from pydantic import Field

from seg_pipeline.params.base import Params
from seg_pipeline.params.reference import document, in_words, sections

ROOT = Path(__file__).parents[1]


def test_the_page_is_that_of_the_declarations():
    assert (ROOT / "docs" / "parameters.md").read_text() == document(), (
        "renew it: python -m seg_pipeline.params.reference > docs/parameters.md"
    )


@dataclass(frozen=True, kw_only=True)
class Colour:
    """How it looks."""

    red: Annotated[int, Ge(0), Lt(256)] | None = None
    """Of 256."""


class Toy(Params):
    size: tuple[float, float] = (1.5, 2.0)
    """Height
    and width."""
    names: list[str] = Field(min_length=1, alias="called")
    colour: Colour = Colour()


def test_a_table_gives_type_bounds_default_and_meaning():
    top, below = sections(Toy)
    assert "| `size` | 2 x number | `[1.5, 2.0]` | Height and width. |" in top
    assert "| `called` | list of text at least 1 long | must be given |  |" in top
    assert below.startswith("## colour\n\nHow it looks.\n")
    assert "| `red` | integer from 0 below 256 or null | `null` | Of 256. |" in below


def test_types_are_said_as_a_user_of_yaml_sees_them():
    assert in_words(Literal["a", "b"] | None) == "`a`, `b` or null"
    assert in_words(dict[str, bool]) == "map of text to true, false"
