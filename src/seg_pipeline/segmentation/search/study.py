"""The Optuna study that records a search, in a journal file or a database.

In PostgreSQL, searches from several machines share a study: each begins and ends trials while it holds ``alone``, and a
trial whose search gives no sign of life is begun again by another (Optuna's heartbeats). Elsewhere one search at a time
runs on a study. One that was killed leaves trials in the states RUNNING or WAITING; the next one marks them as failed
and trains their points again. (Optuna's ``skip_if_exists`` would take such a trial for a finished one and lose its
point.)
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
PATIENCE = 600
"""Seconds to wait for a database that does not answer."""
BEAT, SILENCE = 15, 120
"""Seconds between two signs of life of a trial in PostgreSQL, and without one until another search begins it again."""


@contextmanager
def only_search(folder: Path, url: str | None) -> Iterator[None]:
    """Hold the lock of a study, or in PostgreSQL of ``folder``. The system releases it when this process ends.

    It lies beside a SQLite file, else in ``folder``.

    Raises:
        ValueError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    in_file = url is not None and url.startswith(SQLITE)
    with only_process(Path(f"{str(url).removeprefix(SQLITE)}.lock") if in_file else folder / LOCK, BUSY):
        yield


def is_shared(storage: BaseStorage) -> bool:
    """Whether several searches can use a study at once."""
    return isinstance(storage, PatientStorage) and storage.engine.dialect.name == "postgresql"


@contextmanager
def alone(storage: BaseStorage, study: optuna.Study) -> Iterator[None]:
    """Let the other searches on a shared study wait, during a block in which trials begin or end."""
    if not is_shared(storage):
        yield
        return
    assert isinstance(storage, PatientStorage)
    lock_it = sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(zlib.crc32(study.study_name.encode())))
    with storage.engine.connect() as connection, connection.begin():
        connection.execute(lock_it)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with Study.optimize")
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield


@contextmanager
def signs_of_life(storage: BaseStorage, trial_ids: set[int]) -> Iterator[None]:
    """Record every ``BEAT`` seconds, in a thread, that these trials are alive; close the storage at the end."""
    ended = threading.Event()

    def record() -> None:
        while not ended.wait(BEAT):
            for one in list(trial_ids):
                with suppress(sqlalchemy.exc.SQLAlchemyError):  # a server that goes away; there is another beat
                    show_life(storage, one)

    thread = threading.Thread(target=record, daemon=True)
    if is_shared(storage):
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.ident:
            thread.join()
        if isinstance(storage, PatientStorage):
            storage.engine.dispose()


def show_life(storage: BaseStorage, trial_id: int) -> None:
    if is_shared(storage):
        assert isinstance(storage, PatientStorage)
        storage.record_heartbeat(trial_id)


def fail_lost(storage: BaseStorage, study: optuna.Study) -> None:
    """Mark trials of a shared study as failed whose searches have died; to be called ``alone``."""
    if not is_shared(storage):
        return
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if "key" not in trial.user_attrs:  # begun and ended before its first sign of life
            study.tell(trial.number, state=TrialState.FAIL)
    optuna.storages.fail_stale_trials(study)


def drop_waiting(study: optuna.Study) -> None:
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.tell(study.ask(), state=TrialState.FAIL)


class _JournalLock(JournalFileOpenLock):
    """Lock of the journal that ends with its process; Optuna's own outlives a killed process by half a minute."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._stream: IO | None = None

    def acquire(self) -> bool:
        self._stream = self._journal.with_suffix(".lock").open("a+")
        lock(self._stream, wait=True)
        _cut_off_half_line(self._journal)
        return True

    def release(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None


def _cut_off_half_line(file: Path) -> None:
    """Remove what a killed write left, to which the next line would be appended."""
    with file.open("rb+") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read() != b"\n":
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)


class PatientStorage(RDBStorage):
    """A database on a server that may go away for a while: nothing is lost, and calls wait up to ``PATIENCE``."""

    def __init__(self, url: str) -> None:
        beats: Any = {"heartbeat_interval": BEAT, "grace_period": SILENCE} if url.startswith("postgresql") else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            super().__init__(
                url, engine_kwargs={"pool_pre_ping": True}, heartbeat_stale_trial_callback=_enqueue_again, **beats
            )
        self._wait_for_server()

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._wait_for_server()

    def _wait_for_server(self) -> None:
        @sqlalchemy.event.listens_for(self.engine, "do_connect")
        def connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:  # noqa: ARG001
            since = time.monotonic()
            while True:
                try:
                    return dialect.connect(*arguments, **options)
                except dialect.loaded_dbapi.OperationalError as error:
                    if time.monotonic() - since > PATIENCE:
                        raise
                    log.warning("the database of the search does not answer (%s)", str(error).partition("\n")[0])
                    time.sleep(1)


def _enqueue_again(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
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
    """As ``open_storage``."""
    try:
        if url.startswith("sqlite"):
            return RDBStorage(url)
        for _ in range(3):  # two searches that create the tables of a new database at once
            with suppress(sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError):
                return PatientStorage(url)
            time.sleep(1)
        return PatientStorage(url)
    except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        said = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ValueError(
            f"hparam_search.pool.storage: the database at {_without_password(url)} cannot be used ({said}); correct "
            "the address, start the server, or install its driver, such as `pip install 'seg_pipeline[postgres]'`"
        ) from None


def _without_password(url: str) -> str:
    try:
        return sqlalchemy.make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return "this URL"


def open_study(name: str, storage: BaseStorage, **options: Any) -> optuna.Study:
    """Load or create a study; unless it is shared, the trials that a killed search left unfinished have failed."""
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True, direction="maximize", **options)
    if not is_shared(storage):
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
        drop_waiting(study)
    return study


def finished_trials(study: optuna.Study) -> dict[str, dict]:
    """User attributes of the trials that need not run again, by key, in the order in which they were begun."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    attributes = (one.user_attrs for one in study.get_trials(deepcopy=False, states=states))
    return {one["key"]: one for one in attributes if "key" in one}  # others repeat a trial or could not be built
