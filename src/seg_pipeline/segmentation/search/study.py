"""The Optuna study that records a search, in a journal file or a database.

In PostgreSQL, searches from several machines share a study: each starts and ends trials under ``exclusive_access``, and
a trial whose search stops sending heartbeats (Optuna's) is restarted by another. Elsewhere one search at a time uses a
study. A killed search leaves trials in the states RUNNING or WAITING; the next one marks them as failed and trains
their points again. (Optuna's ``skip_if_exists`` would treat such a trial as finished and lose its point.)
"""

import logging
import os
import threading
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from seg_pipeline.segmentation.storage.locks import lock, only_process

log = logging.getLogger(__name__)

JOURNAL, LOCK = "study.journal", "search.lock"
SQLITE = "sqlite:///"
BUSY = (
    "another search (process {process}) is using this study; wait for it, stop it, or use another `data_root`, with a "
    "study in PostgreSQL (`hparam_search.pool.storage`) to share its trials"
)
SERVER_TIMEOUT = 600
"""Seconds to wait for a database that does not respond."""
HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 120
"""Seconds between two heartbeats of a trial in PostgreSQL, and without one until another search restarts the trial."""


@contextmanager
def lock_study(folder: Path, url: str | None) -> Iterator[None]:
    """Hold the lock of a study, or in PostgreSQL of ``folder``. The system releases it when this process ends.

    The lock file is beside a SQLite file, else in ``folder``.

    Raises:
        ValueError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    is_sqlite = url is not None and url.startswith(SQLITE)
    with only_process(Path(f"{str(url).removeprefix(SQLITE)}.lock") if is_sqlite else folder / LOCK, BUSY):
        yield


def is_shared(storage: BaseStorage) -> bool:
    """Whether several searches can use a study at once."""
    return isinstance(storage, ReconnectingStorage) and storage.engine.dialect.name == "postgresql"


@contextmanager
def exclusive_access(storage: BaseStorage, study: optuna.Study) -> Iterator[None]:
    """Make other searches on a shared study wait during this block, in which trials start or end."""
    if not is_shared(storage):
        yield
        return
    assert isinstance(storage, ReconnectingStorage)
    acquire_lock = sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(zlib.crc32(study.study_name.encode())))
    with storage.engine.connect() as connection, connection.begin():
        connection.execute(acquire_lock)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with Study.optimize")
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield


@contextmanager
def heartbeats(storage: BaseStorage, trial_ids: set[int]) -> Iterator[None]:
    """Record a heartbeat of these trials every ``HEARTBEAT_SECONDS``, in a thread; close the storage at the end."""
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(HEARTBEAT_SECONDS):
            for trial_id in list(trial_ids):
                with suppress(sqlalchemy.exc.SQLAlchemyError):  # the server may be back for the next heartbeat
                    record_heartbeat(storage, trial_id)

    thread = threading.Thread(target=beat, daemon=True)
    if is_shared(storage):
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        if thread.ident:
            thread.join()
        if isinstance(storage, ReconnectingStorage):
            storage.engine.dispose()


def record_heartbeat(storage: BaseStorage, trial_id: int) -> None:
    if is_shared(storage):
        assert isinstance(storage, ReconnectingStorage)
        storage.record_heartbeat(trial_id)


def fail_stale_trials(storage: BaseStorage, study: optuna.Study) -> None:
    """Mark trials of a shared study as failed if their search has died; call under ``exclusive_access``."""
    if not is_shared(storage):
        return
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if "key" not in trial.user_attrs:  # its search died before the first heartbeat
            study.tell(trial.number, state=TrialState.FAIL)
    optuna.storages.fail_stale_trials(study)


def fail_waiting_trials(study: optuna.Study) -> None:
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.tell(study.ask(), state=TrialState.FAIL)


class _JournalLock(JournalFileOpenLock):
    """Lock of the journal that is released when its process ends; Optuna's outlives a killed process by 30 s."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._stream: IO | None = None

    def acquire(self) -> bool:
        self._stream = self._journal.with_suffix(".lock").open("a+")
        lock(self._stream, wait=True)
        _remove_partial_line(self._journal)
        return True

    def release(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None


def _remove_partial_line(file: Path) -> None:
    """Remove the partial line of a killed write, to which the next line would be appended."""
    with file.open("rb+") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read() != b"\n":
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)


class ReconnectingStorage(RDBStorage):
    """A database on a server that may be down for a while: calls wait up to ``SERVER_TIMEOUT``, and nothing is lost."""

    def __init__(self, url: str) -> None:
        heartbeat: Any = (
            {"heartbeat_interval": HEARTBEAT_SECONDS, "grace_period": GRACE_SECONDS}
            if url.startswith("postgresql")
            else {}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(
                url, engine_kwargs={"pool_pre_ping": True}, heartbeat_stale_trial_callback=_requeue, **heartbeat
            )
        self._wait_for_server()

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._wait_for_server()

    def _wait_for_server(self) -> None:
        @sqlalchemy.event.listens_for(self.engine, "do_connect")
        def connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:  # noqa: ARG001
            started = time.monotonic()
            while True:
                try:
                    return dialect.connect(*arguments, **options)
                except dialect.loaded_dbapi.OperationalError as error:
                    if time.monotonic() - started > SERVER_TIMEOUT:
                        raise
                    log.warning("the search's database does not respond (%s)", str(error).partition("\n")[0])
                    time.sleep(1)


def _requeue(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    study.enqueue_trial(trial.params)


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """The database at ``url``, or the journal in ``folder``.

    Raises:
        ValueError: the database cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is not None:
        return open_database(url)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / JOURNAL
    return JournalStorage(JournalFileBackend(str(file), lock_obj=_JournalLock(file)))


def open_database(url: str) -> RDBStorage:
    """Open the database at ``url``; see ``open_storage``."""
    try:
        if url.startswith("sqlite"):
            return RDBStorage(url)
        for _ in range(3):  # two searches that create the tables of a new database at once
            with suppress(sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
                return ReconnectingStorage(url)
            time.sleep(1)
        return ReconnectingStorage(url)
    except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        message = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ValueError(
            f"hparam_search.pool.storage: the database at {_without_password(url)} cannot be used ({message}); fix "
            "the address, start the server, or install its driver, such as `pip install 'seg_pipeline[postgres]'`"
        ) from None


def _without_password(url: str) -> str:
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return "this URL"


def open_study(name: str, storage: BaseStorage, **options: Any) -> optuna.Study:
    """Load or create a study; unless it is shared, mark trials that a killed search left unfinished as failed."""
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True, direction="maximize", **options)
    if not is_shared(storage):
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
        fail_waiting_trials(study)
    return study


def finished_trials(study: optuna.Study) -> dict[str, dict]:
    """User attributes of the trials that need not run again, by key, in the order in which they were started."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    attributes = (trial.user_attrs for trial in study.get_trials(deepcopy=False, states=states))
    return {
        trial["key"]: trial for trial in attributes if "key" in trial
    }  # others repeat a trial or had invalid settings
