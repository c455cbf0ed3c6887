from __future__ import annotations

import io
import logging
import sys

import pytest
from kedro.pipeline import Node, Pipeline

from seg_pipeline.hooks.terminal import ColourHandler, TerminalHooks, colour_logs, in_colour

NODES = [Node(lambda given: given, f"in_{letter}", f"out_{letter}", name=f"make_{letter}") for letter in "ab"]


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch):
    """Makes standard error a terminal; a call, as pytest sets its own before each test begins."""

    def make() -> Screen:
        for name in ("NO_COLOR", "CI"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", Screen())
        return sys.stderr

    return make


def test_each_node_is_a_line(caplog):
    caplog.set_level(logging.INFO)
    hooks = TerminalHooks()
    hooks.before_pipeline_run(Pipeline(NODES))
    for node in NODES:
        hooks.before_node_run(node)
    assert caplog.messages == ["1/2 make_a", "2/2 make_b"]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")])
def test_colours_are_for_terminals_and_who_wants_them(screen, monkeypatch, name, value):
    screen()
    assert in_colour()
    monkeypatch.setenv(name, value)
    assert not in_colour()


def test_a_file_gets_no_colours(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not in_colour()


def test_long_paths_stay_whole_in_colour(screen):
    shown, logger = screen(), logging.getLogger("seg_pipeline.elsewhere")
    line = "/long" * 40 + " [not markup] 12"
    handler = ColourHandler(logging.INFO)
    handler.handle(logger.makeRecord(logger.name, logging.INFO, "f", 1, line, (), None))
    handler.handle(logger.makeRecord(logger.name, logging.WARNING, "f", 1, "two %s", ("things",), None))
    first, second = shown.getvalue().splitlines()
    assert line in first
    assert second.endswith("\x1b[33mtwo things\x1b[0m")


def test_only_the_handler_of_standard_error_changes(screen, monkeypatch):
    screen()
    plain, file = logging.StreamHandler(), logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logging.getLogger(), "handlers", [file, plain])
    colour_logs()
    kept, coloured = logging.getLogger().handlers
    assert kept is file
    assert isinstance(coloured, ColourHandler)
