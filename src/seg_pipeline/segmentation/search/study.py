"""The Optuna study that records a search, in a journal file or a database.

One search at a time runs on a study. A search that was killed leaves trials in the states RUNNING or WAITING; the next
one marks them as failed and trains their points again. (Optuna's ``skip_if_exists`` would take such a trial for a
finished one and lose its point, and its ``RetryFailedTrialCallback`` needs heartbeats, which a journal has not.)
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from seg_pipeline.segmentation.storage.locks import lock, only_process

JOURNAL, LOCK = "study.journal", "search.lock"
SQLITE = "sqlite:///"


@contextmanager
def only_search(folder: Path, url: str | None) -> Iterator[None]:
    """Hold the lock of a study. The system releases it when this process ends, even if it is killed.

    It lies beside the journal or the SQLite file. For another database it lies in ``folder``, so it does not exclude
    a search on another machine that uses the same database.

    Raises:
        ValueError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    in_file = url is not None and url.startswith(SQLITE)
    file = Path(f"{str(url).removeprefix(SQLITE)}.lock") if in_file else folder / LOCK
    busy = "another search (process {process}) is using this study; wait for it, stop it, or use another `data_root`"
    with only_process(file, busy):
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


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """The database at ``url``, or the journal in ``folder``."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is not None:
        return RDBStorage(url)
    file = folder / JOURNAL
    return JournalStorage(JournalFileBackend(str(file), lock_obj=_JournalLock(file)))


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
