"""Two runs at once in one folder of outputs: the second stops, or waits."""

import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from kedro.pipeline import Node, Pipeline

from seg_pipeline.hooks.errors import UserError
from seg_pipeline.hooks.locks import LockHooks

HOLD = """
import fcntl, json, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
json.dump({"process": 41, "host": "node7", "command": "kedro run", "since": "2026-01-02 03:04:05+00:00"}, file)
file.flush()
print("held", flush=True)
sys.stdin.read()
"""


def pipeline(*namespaces: str) -> Pipeline:
    return Pipeline([Node(lambda: 1, None, f"{name}.out", name=f"{name}.make", namespace=name) for name in namespaces])


def hooks(root: Path, **parameters) -> LockHooks:
    made = LockHooks()
    made.after_context_created(SimpleNamespace(project_path=root, config_loader=Loader(parameters)))
    return made


class Loader(dict):
    def __init__(self, parameters: dict, **runtime_params: str) -> None:
        super().__init__(globals={"data_root": "data"}, parameters=parameters)
        self.runtime_params = runtime_params


@pytest.mark.fault(
    scenario="`data_root` at an address (s3://)",
    command="kedro run",
    outcome="refused before the run, with what to do",
)
def test_data_at_an_address_is_refused_before_anything_is_read(tmp_path):
    loader = Loader({}, data_root="s3://bucket/scans")
    with pytest.raises(UserError, match=r"data_root: s3://bucket/scans is an address, but .* mount the bucket"):
        LockHooks().after_context_created(SimpleNamespace(project_path=tmp_path, config_loader=loader))


@pytest.fixture
def another_run(tmp_path):
    """Another process trains into ``data``, until its input or the test ends."""
    (tmp_path / "data/.locks").mkdir(parents=True)
    holding = [sys.executable, "-c", HOLD, str(tmp_path / "data/.locks/training.lock")]
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.fault(
    scenario="two runs of a pipeline in one `data_root`",
    command="kedro run --pipeline training",
    outcome="the second names the first and stops",
    review="serving 5",
)
def test_a_second_training_stops_and_says_who_trains(tmp_path, another_run):
    message = (
        f"another run of `training` writes to {tmp_path}/data: process 41 on node7, `kedro run`, since 2026-01-02 "
        "03:04:05+00:00. Wait for it, give this run another `data_root`, or let it wait with "
        "`--params concurrent_run=wait`"
    )
    run = hooks(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        run.before_pipeline_run({}, pipeline("eda", "training"))
    again = hooks(tmp_path)  # what the refused run had locked is free
    again.before_pipeline_run({}, pipeline("eda"))
    again.after_pipeline_run()


def test_other_pipelines_and_other_folders_are_free(tmp_path, another_run):
    for given, names in (({}, ["eda"]), ({"runtime_params": {"data_root": "other"}}, ["training"])):
        run = hooks(tmp_path)
        run.before_pipeline_run(given, pipeline(*names))
        run.after_pipeline_run()
    assert (tmp_path / "other/.locks/training.lock").exists()


@pytest.mark.fault(
    scenario="two runs, with `concurrent_run: wait`",
    command="kedro run --pipeline training",
    outcome="the second waits",
)
def test_it_can_wait(tmp_path, another_run):
    run = hooks(tmp_path, concurrent_run="wait")
    threading.Timer(0.3, another_run.stdin.close).start()
    run.before_pipeline_run({}, pipeline("training"))
    assert another_run.wait(timeout=120) == 0
    run.on_pipeline_error()


@pytest.mark.fault(
    scenario="killed while it holds the lock of `data_root`",
    command="kedro run --pipeline training",
    outcome="the next run starts",
)
def test_a_killed_run_holds_nothing(tmp_path, another_run):
    another_run.kill()
    another_run.wait()
    run = hooks(tmp_path)
    run.before_pipeline_run({"env": "cells"}, pipeline("training"))
    assert '"command": "kedro run --env cells"' in (tmp_path / "data/.locks/training.lock").read_text()
    run.after_pipeline_run()


def test_a_search_has_its_own_lock(tmp_path):
    run = hooks(tmp_path)
    run.before_pipeline_run({}, pipeline("hparam_search"))
    assert list((tmp_path / "data/.locks").iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_left_to_the_outputs(tmp_path):
    (tmp_path / "data").write_text("a file")
    run = hooks(tmp_path)
    run.before_pipeline_run({}, pipeline("training"))
    run.after_pipeline_run()
    assert (tmp_path / "data").read_text() == "a file"
