"""The start-up benchmark: what it compares with, and that a command that fails is no measurement."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def startup(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("startup")


@pytest.mark.slow
def test_the_bare_project_has_no_pipeline_and_no_hook(startup, tmp_path: Path):
    bare = startup.make_bare_project(tmp_path)
    listed = startup.kedro(["registry", "list"], bare).splitlines()
    assert [line for line in listed if line.startswith("- ")] == ["- __default__"]
    assert "\nHOOKS" not in (bare / "src/bare/settings.py").read_text()


def test_a_command_that_fails_is_not_measured(startup, tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"(?s)kedro registry list ended with \d in .*No such command 'registry'"):
        startup.kedro(["registry", "list"], tmp_path)  # no project there
