"""The Optuna study in which a search is kept: in a journal file or a database, with one coordinator at a time.

A trial's user attributes say what it was and, once it has ended, all its history rows, so the study alone is enough to
go on from. A coordinator that was killed leaves trials RUNNING or WAITING; the next one tells them FAIL and runs their
points again. (Optuna's own ``skip_if_exists`` would take such a zombie for a trial that exists, and lose its point.)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

JOURNAL, LOCK = "study.journal", "coordinator.lock"
SQLITE = "sqlite:///"


@contextmanager
def only_coordinator(folder: Path, url: str | None) -> Iterator[None]:
    """Holds the lock of the study. The system lets go of it when this process ends, however it does.

    It lies beside the journal or the SQLite file; for another database in the folder of the search, so two machines
    with folders of their own on one database are not kept apart.

    Raises:
        ValueError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    in_file = url is not None and url.startswith(SQLITE)
    file = Path(f"{str(url).removeprefix(SQLITE)}.lock") if in_file else folder / LOCK
    with file.open("a+") as stream:
        try:
            _lock(stream)
        except OSError:
            stream.seek(0)
            raise ValueError(
                f"{file}: another search (process {stream.read().strip() or 'unknown'}) runs on this study; wait for "
                "it, stop it, or give this one another `data_root`"
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(stream: IO) -> None:
        stream.seek(1 << 30)  # a locked byte cannot be read, so not one of the text
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(stream: IO) -> None:
        # Of the process, unlike flock: a data loader's forked worker that outlives it does not hold it.
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


class _Held(JournalFileOpenLock):
    """The journal has one writer already; Optuna's own lock would outlive a killed one for half a minute."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """Only while ``only_coordinator`` holds."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url is not None:
        return RDBStorage(url)
    file = folder / JOURNAL
    _cut_off_half_line(file)
    return JournalStorage(JournalFileBackend(str(file), lock_obj=_Held(str(file))))


def _cut_off_half_line(file: Path) -> None:
    """A write that was killed may have left half a line, to which the next one would be added."""
    if file.exists() and (text := file.read_bytes()) and not text.endswith(b"\n"):
        os.truncate(file, text.rfind(b"\n") + 1)


def open_study(name: str, storage: BaseStorage, **options: Any) -> optuna.Study:
    """The study of that name, without zombies."""
    study = optuna.create_study(study_name=name, storage=storage, load_if_exists=True, direction="maximize", **options)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.tell(study.ask(), state=TrialState.FAIL)
    return study


def ended(study: optuna.Study) -> dict[str, dict]:
    """Attributes of the trials that need not run again, by key, in the order in which they were begun."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    attributes = (one.user_attrs for one in study.get_trials(deepcopy=False, states=states))
    return {one["key"]: one for one in attributes if "key" in one}  # others repeat a trial or could not be built
