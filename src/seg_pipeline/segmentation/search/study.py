"""The Optuna study that records a search, in a journal file or a database.

One search at a time runs on a study. A search that was killed leaves trials in the states RUNNING or WAITING; the next
one marks them as failed and trains their points again. (Optuna's ``skip_if_exists`` would take such a trial for a
finished one and lose its point, and its ``RetryFailedTrialCallback`` needs heartbeats, which a journal has not.)
"""

import logging
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
BUSY = "another search ({who}) is using this study; wait for it, stop it, or use another `data_root`"
PATIENCE = 600
"""Seconds to wait for a database that does not answer."""


@contextmanager
def only_search(
    folder: Path, url: str | None, storage: BaseStorage | None = None, identity: str = ""
) -> Iterator[None]:
    """Hold the lock of a study. The system releases it when this process ends, even if it is killed.

    It lies beside the journal or the SQLite file. In PostgreSQL it belongs to a connection and excludes searches of the
    same ``identity`` on other machines, until the server restarts. For another database it lies in ``folder``.

    Raises:
        ValueError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    in_file = url is not None and url.startswith(SQLITE)
    file = Path(f"{str(url).removeprefix(SQLITE)}.lock") if in_file else folder / LOCK
    with ExitStack() as stack:
        stack.enter_context(only_process(file, BUSY.format(who="process {process}")))
        if isinstance(storage, PatientStorage):
            stack.callback(storage.engine.dispose)
            connection = stack.enter_context(storage.engine.connect()).execution_options(isolation_level="AUTOCOMMIT")
            acquire = sqlalchemy.select(sqlalchemy.func.pg_try_advisory_lock(zlib.crc32(identity.encode())))
            if storage.engine.dialect.name == "postgresql" and not connection.scalar(acquire):
                raise ValueError(BUSY.format(who="on another machine, or with another `data_root`"))
        yield


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
        super().__init__(url, engine_kwargs={"pool_pre_ping": True})
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
        return RDBStorage(url) if url.startswith("sqlite") else PatientStorage(url)
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
    """Load or create a study, and mark the trials that a killed search left unfinished as failed."""
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True, direction="maximize", **options)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.tell(study.ask(), state=TrialState.FAIL)
    return study


def finished_trials(study: optuna.Study) -> dict[str, dict]:
    """User attributes of the trials that need not run again, by key, in the order in which they were begun."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    attributes = (one.user_attrs for one in study.get_trials(deepcopy=False, states=states))
    return {one["key"]: one for one in attributes if "key" in one}  # others repeat a trial or could not be built
