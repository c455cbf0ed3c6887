import logging
import sys

import pytest
import tqdm.std

from seg_pipeline.segmentation.settings.progress import LogLines, progress_bar


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(tqdm.std, "time", lambda: now[0])
    return now


def test_without_a_terminal_there_are_lines_ever_rarer(clock, caplog, capfd):
    """One step per second: after 5 s, 10 s more, 20 s more, 40 s more, and then each minute."""
    caplog.set_level(logging.INFO)
    for _ in progress_bar(range(200), title="comparing onnx", unit="images"):
        clock[0] += 1
    assert [int(line.split()[2]) for line in caplog.messages] == [5, 15, 35, 75, 135, 195]
    assert caplog.messages[0] == "comparing onnx: 5 of 200 images, 03:15 left"
    assert capfd.readouterr() == ("", "")


def test_what_takes_less_than_five_seconds_has_no_line(clock, caplog):
    caplog.set_level(logging.INFO)
    with progress_bar(total=4, title="exporting", unit="formats") as bar:
        for _ in range(4):
            clock[0] += 1
            bar.update()
    assert caplog.messages == []


def test_a_hidden_one_only_iterates(clock, caplog):
    caplog.set_level(logging.INFO)
    for _ in progress_bar(range(9), title="x", unit="y", hidden=True):
        clock[0] += 60
    assert caplog.messages == []


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert not isinstance(progress_bar(total=1, title="x", unit="y", hidden=True), LogLines)
