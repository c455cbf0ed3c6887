"""`make install` must find every pinned version on the oldest Python that pyproject.toml admits."""

import tomllib
from importlib.metadata import PackageNotFoundError, requires
from importlib.metadata import metadata as metadata_of
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = {
    canonicalize_name(pin.name): pin.specifier
    for pin in map(Requirement, (line for line in LINES if not line.startswith("#")))
}


def test_no_pin_refuses_the_oldest_supported_python():
    oldest = "3.11.0"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert SpecifierSet(project["requires-python"]).contains(oldest)
    refusing = {}
    for name in PINS:
        try:
            asked = metadata_of(name).get("Requires-Python")
        except PackageNotFoundError:
            continue  # for another platform
        if not SpecifierSet(asked or "").contains(oldest):
            refusing[name] = asked
    assert refusing == {}


def test_every_direct_dependency_is_pinned_within_its_bounds():
    asked = [Requirement(text) for text in requires("seg_pipeline") or []]
    assert asked
    for need in asked:
        if need.name == "seg_pipeline":
            continue  # the extra `dev` takes in `jupyter`
        pin = next(iter(PINS[canonicalize_name(need.name)]))
        assert pin.operator == "=="
        assert need.specifier.contains(pin.version), f"{need} is pinned to {pin}"
