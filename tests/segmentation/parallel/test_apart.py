"""Functions called in a process of their own, which they may end."""

import logging
import multiprocessing
import os
import time
from pathlib import Path
from zipfile import BadZipFile

import pytest

from seg_pipeline.segmentation.parallel import apart
from seg_pipeline.segmentation.parallel.apart import ProcessDiedError, call_apart


def die_once(flag: Path) -> str:
    if not flag.exists():
        flag.touch()
        os.abort()
    return "alive"


def fail(kind: type[Exception]) -> None:
    os.write(1, b"a decoder that prints")
    logging.getLogger("decoder").warning("an odd tag")
    raise kind("why")


def test_results_and_errors_come_back_from_one_process(capfd):
    pid = call_apart(os.getpid)
    assert pid not in (os.getpid(), os.getppid())
    with pytest.raises(MemoryError, match="why"):
        call_apart(fail, MemoryError)
    with pytest.raises(ProcessDiedError, match="why"):
        call_apart(fail, ProcessDiedError)
    with pytest.raises(RuntimeError, match="BadZipFile: why"):
        call_apart(fail, BadZipFile)
    assert call_apart(os.getpid) == pid
    assert "an odd tag" not in capfd.readouterr().err


def test_a_process_that_dies_costs_a_retry(tmp_path):
    assert call_apart(die_once, tmp_path / "flag") == "alive"


def test_a_call_that_ends_every_process_is_an_error_and_the_next_call_succeeds():
    with pytest.raises(ProcessDiedError, match="ended with exit code -6"):
        call_apart(os.abort)
    assert call_apart(abs, -1) == 1


def test_a_call_that_takes_too_long_is_ended(monkeypatch):
    assert call_apart(abs, -1) == 1  # started before the time counts
    monkeypatch.setattr(apart, "SECONDS", 0.2)
    with pytest.raises(ProcessDiedError, match="ended with exit code -9"):
        call_apart(time.sleep, 600)


def test_a_process_that_may_die_itself_starts_no_other(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert call_apart(os.getpid) == os.getpid()
