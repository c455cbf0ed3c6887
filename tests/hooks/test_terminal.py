import io
import logging
import sys

import pytest
from kedro.pipeline import Node, Pipeline

from seg_pipeline.hooks.terminal import ColourHandler, TerminalHooks, colour_logs, has_colour

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
    assert [line for line in caplog.messages if "finished" not in line] == ["1/2 make_a", "2/2 make_b"]


def node(pipeline: str, inputs: list[str], output: str) -> Node:
    return Node(lambda *given: given, inputs or None, output, name=output, namespace=pipeline)


def test_pipelines_follow_one_another_and_say_how_long_they_took(caplog, monkeypatch):
    """Kedro would take b, f, s, t: what is ready at the same time, by name."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("seg_pipeline.hooks.terminal.time.monotonic", iter([0, 0.5, 2, 3, 5, 75]).__next__)
    whole = Pipeline(
        [
            node("training", ["p1"], "t"),
            node("eda", ["p1"], "s"),
            node("eda", ["s"], "f"),
            node("data_processing", [], "p1"),
            node("data_processing", ["p1"], "b"),
        ]
    )
    hooks = TerminalHooks()
    hooks.before_pipeline_run(whole)
    for one in whole.nodes:
        hooks.before_node_run(one)
    hooks.after_pipeline_run()
    assert caplog.messages == [
        "1/5 data_processing.p1",
        "2/5 data_processing.b",
        "data_processing finished in 2.0 s (b 1.5 s)",
        "3/5 eda.s",
        "4/5 eda.f",
        "eda finished in 3.0 s (f 2.0 s, s 1.0 s)",
        "5/5 training.t",
        "training finished in 1 min 10 s",
    ]


def test_a_line_that_each_trial_repeats_is_shown_once(screen, monkeypatch):
    shown, logger = screen(), logging.getLogger("seg_pipeline.segmentation.data.cache")
    handlers = [logging.StreamHandler(), logging.StreamHandler()]
    monkeypatch.setattr(logging.getLogger(), "handlers", handlers)
    hooks = TerminalHooks()
    hooks.before_pipeline_run(Pipeline(NODES))
    logger.setLevel(logging.INFO)
    for _ in range(9):
        logger.info("pixel cache: %s are kept in memory", "2 MiB")
        logger.warning("a worker died")
        logging.getLogger("elsewhere").warning("theirs")
    lines = shown.getvalue().splitlines()
    assert lines.count("pixel cache: 2 MiB are kept in memory") == 2  # once per handler
    assert lines.count("a worker died") == lines.count("theirs") == 18
    hooks.before_pipeline_run(Pipeline(NODES))
    logger.info("pixel cache: %s are kept in memory", "2 MiB")
    assert shown.getvalue().count("pixel cache") == 4


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")])
def test_colours_are_for_terminals_and_who_wants_them(screen, monkeypatch, name, value):
    screen()
    assert has_colour()
    monkeypatch.setenv(name, value)
    assert not has_colour()


def test_a_file_gets_no_colours(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not has_colour()


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
