"""`seg-pipeline`: which command goes where."""

import sys

import pytest

from seg_pipeline import __main__ as entry


def test_a_command_gets_the_rest_of_the_line(monkeypatch):
    import seg_pipeline.commands.predict

    given = []
    monkeypatch.setattr(seg_pipeline.commands.predict, "main", lambda argv: given.append(argv) or 3)
    monkeypatch.setattr(sys, "argv", ["seg-pipeline", "predict", "images", "--quiet"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert (ended.value.code, given) == (3, [["images", "--quiet"]])


@pytest.mark.parametrize("arguments", [["--pipeline", "training"], ["--help"], []])
def test_all_else_is_kedros(monkeypatch, capsys, arguments):
    monkeypatch.setattr(entry, "_kedro_run", lambda: "kedro")
    monkeypatch.setattr(sys, "argv", ["seg-pipeline", *arguments])
    assert entry.main() == "kedro"
    printed = capsys.readouterr().out
    assert ("seg-pipeline predict" in printed and "seg-pipeline serve" in printed) == (arguments == ["--help"])
