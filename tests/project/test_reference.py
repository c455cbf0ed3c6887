"""The generated pages of docs/reference are what the declarations say."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Lt
from pydantic import Field

from seg_pipeline.params.base import Params

DOCS = Path(__file__).parents[2] / "docs"
SPEC = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return generate.pages()


@pytest.fixture(scope="module")
def faults() -> list:
    return generate.faults()


@pytest.mark.parametrize("name", ["parameters.md", "findings.md", "tables.md", "faults.md", "gallery.md"])
def test_a_generated_page_is_up_to_date(name, pages):
    assert (DOCS / "reference" / name).read_text() == pages[name], "run: python docs/generate.py"


def test_every_parameter_has_a_meaning():
    rows = (DOCS / "reference" / "parameters.md").read_text().splitlines()
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_architecture_is_listed():
    mapping = pytest.importorskip("segmentation_models_pytorch").MODEL_ARCHITECTURES_MAPPING
    (row,) = [one for one in (DOCS / "reference/parameters.md").read_text().splitlines() if "| `architecture`" in one]
    assert [name for name in mapping if f" {name}" not in row] == []


REVIEWED = {
    *(f"serving {number}" for number in range(1, 16)),
    *(f"data {number}" for number in (4, 12, 13, 15, 16, 19)),
}


def test_every_finding_of_the_reviews_of_faults_has_its_test(faults):
    assert {one.review for one in faults if one.review} == REVIEWED


def test_a_mark_names_its_test_and_what_happens(faults):
    (found,) = [one for one in faults if one.test == "test_it_can_wait"]
    assert (found.file, found.outcome) == ("tests/hooks/test_locks.py", "the second waits")


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
    top, below = generate.sections(Toy)
    assert "| `size` | 2 x number | `[1.5, 2.0]` | Height and width. |" in top
    assert "| `called` | list of text at least 1 long | required |  |" in top
    assert below.startswith("## colour\n\nHow it looks.\n")
    assert "| `red` | integer from 0 below 256 or null | `null` | Of 256. |" in below


def test_types_are_said_as_a_user_of_yaml_sees_them():
    assert generate.in_words(Literal["a", "b"] | None) == "`a`, `b` or null"
    assert generate.in_words(dict[str, bool]) == "map of text to true, false"
