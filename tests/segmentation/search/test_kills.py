"""Searches that are killed at several points, a worker that is killed, and a second search on one study.

Run as a script, ``POINT FOLDER``, this file is the process that searches.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pandas as pd
import pytest
import torch
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from seg_pipeline.segmentation.search import search, trials
from seg_pipeline.segmentation.search.study import lock_study, open_storage
from seg_pipeline.segmentation.settings.search import GridSettings, PoolSettings, TpeSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

COMPUTE = ComputeSettings(device="cpu", num_workers=0, cache="ram")
GRID = GridSettings(learning_rates=(1e-3, 1e-2), weight_decays=(1e-2, 1e-1), epochs=2, extend=False)
TPE = TpeSettings(space={"optimizer.warmup": [0.2, 0.3]}, trials=2, pruner="none")
ONE = PoolSettings(threads=1)


def run(scans: pd.DataFrame, config: TrainingConfig, folder: Path, pool: PoolSettings = ONE) -> pd.DataFrame:
    return search(scans, config, COMPUTE, folder=folder, grid=GRID, tpe=TPE, pool=pool)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at(owner: type, name: str, call: int, *, after: bool) -> None:
    """Makes a method kill this process before or after its n-th call, counted from 1."""
    plain, calls = getattr(owner, name), []

    def method(*arguments, **options):
        calls.append(1)
        if len(calls) == call and not after:
            die()
        result = plain(*arguments, **options)
        if len(calls) == call:
            die()
        return result

    setattr(owner, name, method)


def dies_writing_the_journal(call: int) -> None:
    plain, calls = JournalFileBackend.append_logs, []

    def append(self, logs):
        calls.append(1)
        if len(calls) < call:
            return plain(self, logs)
        with Path(self._file_path).open("ab") as stream:
            stream.write(json.dumps(logs[0]).encode()[:20])
        return die()

    JournalFileBackend.append_logs = append


POINTS: dict[str, Callable[[], None]] = {
    "a trial is waiting": lambda: dies_at(optuna.Study, "enqueue_trial", 1, after=True),
    "an epoch has ended": lambda: dies_at(optuna.trial.Trial, "report", 1, after=True),
    "a trial has ended, untold": lambda: dies_at(trials.TrialRunner, "_finish", 1, after=False),
    "a line of the journal is half written": lambda: dies_writing_the_journal(30),
    "a trial is told": lambda: dies_at(optuna.Study, "tell", 2, after=True),
    "a further trial is proposed": lambda: dies_at(optuna.Study, "ask", 3, after=True),
}


def live_until(point: str, folder: Path) -> None:
    POINTS.get(point, lambda: None)()
    config = TrainingConfig.from_dict(json.loads((folder / "training_config.json").read_text()))
    run(pd.read_parquet(folder / "scans.parquet"), config, folder / "search").to_parquet(folder / "trials.parquet")


@pytest.fixture
def live(tmp_path, scans, config, warm):
    """Runs the search in a process of its own, up to a point; its exit status and what it printed."""
    scans.to_parquet(tmp_path / "scans.parquet")
    (tmp_path / "training_config.json").write_text(json.dumps(config.to_dict()))
    return lambda point: warm.run(__file__, point, tmp_path, program="python", cwd=str(tmp_path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, scans, config) -> pd.DataFrame:
    """The table of an undisturbed search."""
    threads = torch.get_num_threads()
    yield run(scans, config, tmp_path_factory.mktemp("whole"))
    torch.set_num_threads(threads)


def studies(folder: Path) -> list[optuna.Study]:
    storage = open_storage(folder, None)
    return [optuna.load_study(study_name=name, storage=storage) for name in optuna.get_all_study_names(storage)]


def assert_same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"), check_exact=True)


@pytest.mark.fault(
    scenario="killed in a search",
    command="kedro run --pipeline hparam_search",
    outcome="resumes; no trial is lost or repeated",
)
@pytest.mark.slow
def test_a_search_killed_at_every_point_trains_each_cell_once_and_ends_with_the_same_table(live, whole, tmp_path):
    ended = 0
    for point in POINTS:
        status, printed = live(point)
        assert status == -signal.SIGKILL, (point, printed[-1500:])
        told = sum(len(study.get_trials(states=(TrialState.COMPLETE,))) for study in studies(tmp_path / "search"))
        assert told >= ended  # nothing that was told is lost
        ended = told
    status, printed = live("the end")
    assert status == 0, printed[-1500:]
    assert_same(pd.read_parquet(tmp_path / "trials.parquet"), whole)
    keys = [
        trial.user_attrs["key"]
        for study in studies(tmp_path / "search")
        for trial in study.get_trials(states=(TrialState.COMPLETE,))
        if "key" in trial.user_attrs
    ]
    assert len(keys) == len(set(keys)) == whole["trial"].nunique() >= 4


@pytest.mark.slow
def test_two_processes_one_of_them_killed_give_the_same_table_as_one(scans, config, tmp_path, whole, monkeypatch):
    killed = []
    begin = trials.TrialRunner._start

    def kill_once(self, running, *begun):
        begin(self, running, *begun)
        if not killed:
            (process,) = next(iter(running.values())).worker._processes
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    monkeypatch.setattr(trials.TrialRunner, "_start", kill_once)
    pool = PoolSettings(kind="processes", workers=2, threads=1)
    table = run(scans, config, tmp_path, pool)
    assert killed
    grid = [one[one["step"] != "tpe"].reset_index(drop=True) for one in (table, whole)]
    assert_same(*grid)


@pytest.mark.fault(
    scenario="two searches at once",
    command="kedro run --pipeline hparam_search",
    outcome="the second names the first and stops",
)
def test_a_second_search_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    ready, tell = os.pipe()
    owner = os.fork()
    if owner == 0:
        with lock_study(tmp_path, None):
            os.write(tell, b"1")
            time.sleep(60)
        os._exit(0)
    try:
        os.read(ready, 1)
        with (
            pytest.raises(ValueError, match=rf"another search \(process {owner}\) is using this study; wait for it"),
            lock_study(tmp_path, None),
        ):
            pass
    finally:
        os.kill(owner, signal.SIGKILL)
        os.waitpid(owner, 0)
    with lock_study(tmp_path, None):
        assert (tmp_path / "search.lock").read_text() == str(os.getpid())


if __name__ == "__main__":
    torch.set_num_threads(1)
    live_until(sys.argv[1], Path(sys.argv[2]))
