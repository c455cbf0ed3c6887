"""The study of a search in PostgreSQL: Debian's, started here in a temporary folder."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import traceback
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState

from seg_pipeline.segmentation.search import search, study, trials
from seg_pipeline.segmentation.search.study import open_storage
from seg_pipeline.segmentation.settings.search import GridSettings, PoolSettings, Range, TpeSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings

OUTAGE = 3
GRID = GridSettings(learning_rates=(0.001, 0.01), weight_decays=(), epochs=2, extend=False)
TPE = TpeSettings(space={"optimizer.weight_decay": Range(low=0.001, high=0.1, log=True)}, trials=3, startup_trials=1)


class Server:
    """PostgreSQL on a free port, with a user that needs no password."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            pytest.skip("needs PostgreSQL (Debian: apt install postgresql)")
        pytest.importorskip("psycopg", reason="needs the extra [postgres]")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._bin, self._data = found[-1], folder / "data"
        self._user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
        if self._user:
            shutil.chown(folder, self._user)
        self._call("initdb", "-D", self._data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(f"port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nfsync=off\n")
        self.start()
        self.url = f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        self._call("pg_ctl", "-D", self._data, "-w", "-l", self._data / "log", "start")

    def stop(self) -> None:
        """Go away in the middle of everything."""
        self._call("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    def _call(self, name: str, *arguments: object) -> None:
        command = [str(self._bin / name), *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd=self._data.parent)


@pytest.fixture(scope="module")
def server():
    with tempfile.TemporaryDirectory(prefix="postgres_") as folder:  # pytest's folders are closed to other users
        made = Server(Path(folder))
        yield made
        made.stop()


class Actor:
    """Trains in no time; Dice depends on the learning rate. ``before`` is called before each training."""

    def __init__(self, before=lambda _: None):
        self.trained, self.before = [], before

    def __call__(self, _manifest, config, *_):
        self.trained.append((config.optimizer.learning_rate, config.optimizer.weight_decay, config.seed))
        self.before(len(self.trained))
        history = []
        for epoch in range(1, config.fit.epochs + 1):
            dice = 0.2 * epoch - config.optimizer.learning_rate
            row = {"epoch": epoch, "learning_rate": 0.0, "train_loss": 1 - dice, "val_loss": 1 - dice, "val_dice": dice}
            history.append(row | {"seconds": 1.0})
            yield {"history": list(history), "finished": epoch == config.fit.epochs}


@pytest.fixture
def run(scans, config, tmp_path, monkeypatch):
    """A search; those of another batch size have other studies."""

    def run(actor, folder, batch_size, url):
        monkeypatch.setattr(trials, "train_one_model", actor)
        compute, pool = ComputeSettings(device="cpu", cache="none"), PoolSettings(storage=url)
        config_ = config.changed({"sampling.batch_size": batch_size})
        return search(scans, config_, compute, folder=tmp_path / folder, grid=GRID, tpe=TPE, pool=pool)

    return run


def assert_each_trained_once(url, seed_table, whole):
    pd.testing.assert_frame_equal(seed_table, whole)
    storage = open_storage(Path(), url)
    found = [storage.get_all_trials(one._study_id) for one in storage.get_all_studies()]
    storage.engine.dispose()
    done = [one.user_attrs for all_ in found for one in all_ if one.state == TrialState.COMPLETE]
    keys = [about["key"] for about in done if "key" in about]  # a proposal that the grid has trained has none
    assert len(keys) == len(set(keys))


@pytest.fixture
def searcher(run, server, tmp_path):
    """Starts a search in a process of its own, which writes down each training and, at the end, its table."""

    def searcher(name, batch_size, before):
        process = os.fork()
        if process == 0:
            try:
                with (tmp_path / f"{name}.txt").open("w", buffering=1) as trained:
                    actor = Actor(lambda number: (print(*actor.trained[-1], file=trained), before(number)))
                    run(actor, name, batch_size, server.url).to_parquet(tmp_path / f"{name}.parquet")
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        return process

    return searcher


def wait_for(*files):
    """Wait until each search has begun a trial."""
    for _ in range(600):
        if all(file.exists() and file.read_text() for file in files):
            return
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.fault(
    scenario="two searches on one study in PostgreSQL",
    command="kedro run --pipeline hparam_search",
    outcome="share the trials; both end with the same table",
)
def test_two_searchers_on_one_study_lose_and_repeat_no_trial(server, run, searcher, tmp_path):
    files = [tmp_path / "one.txt", tmp_path / "two.txt"]
    whole = run(Actor(), "whole", 1, None)
    both = [searcher(name, 1, lambda number: number == 1 and wait_for(*files)) for name in ("one", "two")]
    assert [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in both] == [0, 0]
    trained = [file.read_text().splitlines() for file in files]
    assert all(trained)
    assert len({*trained[0], *trained[1]}) == len(trained[0]) + len(trained[1]) == whole["trial"].nunique()
    tables = [pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("one", "two")]
    assert_each_trained_once(server.url, *tables)
    of_grid = [table[table["step"] != "tpe"] for table in (tables[0], whole)]  # what TPE proposes depends on the rest
    pd.testing.assert_frame_equal(*of_grid)


@pytest.mark.slow
def test_a_trial_whose_search_is_killed_is_begun_again_by_another(server, searcher, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(study, "GRACE_SECONDS", 3)

    def take_long(number):
        if number == 1:
            wait_for(tmp_path / "one.txt")
            time.sleep(4)  # longer than GRACE_SECONDS, but alive

    long = searcher("two", 4, take_long)
    dying = searcher("one", 4, before=lambda _: os.kill(os.getpid(), signal.SIGKILL))
    ended = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in (dying, long)]
    assert ended == [-signal.SIGKILL, 0]
    (lost,) = (tmp_path / "one.txt").read_text().splitlines()
    trained = (tmp_path / "two.txt").read_text().splitlines()
    table = pd.read_parquet(tmp_path / "two.parquet")
    assert lost in trained
    assert len(trained) == len(set(trained)) == table["trial"].nunique()
    assert_each_trained_once(server.url, table, table)


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_on_another_machine(server, run, searcher, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "GRACE_SECONDS", 1)
    whole = run(Actor(), "whole", 2, None)
    process = searcher("one", 2, before=lambda number: number == 4 and os.kill(os.getpid(), signal.SIGKILL))
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    second = Actor()
    table = run(second, "two", 2, server.url)
    assert 0 < len(second.trained) == whole["trial"].nunique() - 3
    assert_each_trained_once(server.url, table, whole)


@pytest.mark.slow
@pytest.mark.fault(
    scenario="database of a search that goes away",
    command="kedro run --pipeline hparam_search",
    outcome="is waited for, up to ten minutes; no trial is lost",
)
def test_a_database_that_goes_away_costs_no_trial(server, run, caplog):
    whole = run(Actor(), "whole", 3, None)

    def go_away(number):
        if number == 2:
            server.stop()
            threading.Timer(OUTAGE, server.start).start()

    actor = Actor(go_away)
    table = run(actor, "one", 3, server.url)
    assert "the search's database does not respond" in caplog.text
    assert len(actor.trained) == whole["trial"].nunique()
    assert_each_trained_once(server.url, table, whole)


@pytest.mark.fault(
    scenario="database of a search that cannot be used",
    command="kedro run --pipeline hparam_search",
    outcome="names the address without its password, and what to do",
)
@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "postgresql+psycopg://me:secret@127.0.0.1:9/db",
            r"at postgresql\+psycopg://me:\*\*\*@127.0.0.1:9/db cannot be",
        ),
        ("nowhere://me:secret@host/db", r"at nowhere://me:\*\*\*@host/db cannot be used \(.*nowhere"),
        ("no url", r"at this URL cannot be used \("),
    ],
)
def test_a_database_that_cannot_be_used_is_named(tmp_path, url, message):
    pytest.importorskip("psycopg", reason="needs the extra [postgres]")
    with pytest.raises(ValueError, match=rf"hparam_search\.pool\.storage: the database {message}") as told:
        open_storage(tmp_path, url)
    assert "secret" not in str(told.value)
