"""`seg-pipeline`: which command goes where."""

import re
import sys

import pytest

from seg_pipeline import __main__ as entry


@pytest.mark.parametrize(
    ("name", "module"),
    [("predict", "seg_pipeline.commands.predict"), ("new-data", "seg_pipeline.new_data.command")],
)
def test_a_command_gets_the_rest_of_the_line(monkeypatch, name, module):
    given = []
    monkeypatch.setattr(f"{module}.main", lambda argv: given.append(argv) or 3)
    monkeypatch.setattr(sys, "argv", ["seg-pipeline", name, "images", "--quiet"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert (ended.value.code, given) == (3, [["images", "--quiet"]])


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["--pipeline", "training"], ["--pipeline", "training"]),
        (["run", "--env", "smoke"], ["--env", "smoke"]),
        (["run", "--help"], ["--help"]),
        ([], []),
    ],
)
def test_run_and_all_else_is_kedros(monkeypatch, arguments, passed):
    monkeypatch.setattr(entry, "_kedro_run", lambda given: given)
    monkeypatch.setattr(sys, "argv", ["seg-pipeline", *arguments])
    assert entry.main() == passed


@pytest.mark.slow  # imports Kedro
def test_run_takes_the_options_of_kedro_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["seg-pipeline", "run", "--help"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: seg-pipeline run [OPTIONS]")
    assert "--params" in shown


def test_the_help_lists_every_command_with_an_example(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["seg-pipeline", "--help"])
    entry.main()
    shown = capsys.readouterr().out
    assert re.findall(r"^  ([\w-]+) ", shown, re.M) == ["run", "new-data", "join", "predict", "serve"]
    assert re.findall(r"^ {12}seg-pipeline ([\w-]+) ", shown, re.M) == ["run", "new-data", "join", "predict", "serve"]
    assert max(map(len, shown.splitlines())) <= 110


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("xyz", "available: run, new-data, join, predict, serve."),
        ("predcit", "did you mean `seg-pipeline predict`?"),
        ("newdata", "new-data"),
    ],
)
def test_an_unknown_command_names_the_nearest(monkeypatch, name, hint):
    monkeypatch.setattr(sys, "argv", ["seg-pipeline", name])
    with pytest.raises(SystemExit, match=re.escape(f"no command {name!r}; ")) as ended:
        entry.main()
    assert hint in str(ended.value)
