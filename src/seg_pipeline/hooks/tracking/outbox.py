"""Delivery of tracking calls to a store, with a journal on disk for what a failing store misses.

A journal is ``tracking_aside/<store>-<uuid>.jsonl``, one call per line, with copies of the files it names in the folder
of the same name. The process that writes it holds a lock on it (``flock``), which the system releases when the process
ends, however it ends: a journal that can be locked belongs to a finished or killed run, and the next run replays it.
Calls are replayed in order and may be repeated, so a replay that fails starts again from the first line.
"""

import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from seg_pipeline.hooks.tracking.tracker import Run, Tracker, without_credentials
from seg_pipeline.segmentation.storage.locks import lock

log = logging.getLogger(__name__)

FOLDER = "tracking_aside"
PAUSE = 60.0
"""Seconds without a new attempt after a failure. mlflow waits 20 s for a database lock, three times."""


class Outbox:
    """Sends calls to one store; a store that fails never stops the run, and every lost call is logged."""

    def __init__(self, tracker: Tracker, project: Path) -> None:
        self.tracker, self._folder = tracker, project / FOLDER
        self._starts: dict[str, dict[str, Any]] = {}
        self._kept: set[str] = set()
        self._paused_until = 0.0
        self._journal: tuple[int, Path, IO[str]] | None = None
        """Process, path and locked file of the journal."""
        self._lock = threading.RLock()  # with the ThreadRunner, nodes save at the same time

    def send(self, do: str, **arguments: Any) -> None:
        """Calls the tracker's method ``do``, now or later. The arguments must be JSON values."""
        event = {"do": do, **arguments}
        with self._lock:
            if do == "start":
                self._starts[arguments["run"]["key"]] = event
            waits = self._kept and (time.monotonic() < self._paused_until or self.flush())
            if waits or not self._perform(event):
                self._keep(event)

    def where(self, run: Run) -> str:
        """The run and the command that shows it, or the journal that holds it."""
        if self._kept:
            return f"{self.tracker.title}: kept in {self._journal[1] if self._journal else self._folder}"
        return self.tracker.where(run)

    def flush(self) -> Path | None:
        """Replays this process's journal; returns its path if some of it could not be sent."""
        with self._lock:
            if self._kept and self._journal and self._journal[0] == os.getpid():
                _, path, file = self._journal
                if not self._replay(path):
                    return path
                file.close()
                self._journal = None
            self._kept.clear()
            return None

    def close(self) -> Path | None:
        """``flush`` at the end of a run; what is left in the journal is for the next run."""
        with self._lock:
            left = self.flush()
            if self._journal:
                self._journal[2].close()  # and with it the lock
            return left

    def send_leftovers(self) -> None:
        """Replays the journals of earlier runs of this project, until the store fails again."""
        for path in sorted(self._folder.glob(f"{self.tracker.title}-*.jsonl")):
            try:
                file = path.open("r+", encoding="utf-8")
            except FileNotFoundError:  # another run has just sent and removed it
                continue
            with file:
                if not lock(file, shared_with_forks=True) or not path.exists():
                    continue
                if not self._replay(path, ended=True):
                    return
            log.info("tracking: what was kept in %s has been sent to %s", self._folder, self.tracker.title)

    def _replay(self, path: Path, *, ended: bool = False) -> bool:
        """Sends a journal and removes it; False if the store failed. ``ended``: its unfinished runs were killed."""
        unfinished: dict[str, None] = {}
        for event in _events(path):
            if not self._perform(event):
                return False
            if event["do"] == "start":
                unfinished[event["run"]["key"]] = None
            elif event["do"] == "finish":
                unfinished.pop(event["run"], None)
        if ended and not all(self._perform({"do": "finish", "run": key, "status": "KILLED"}) for key in unfinished):
            return False
        path.unlink(missing_ok=True)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        return True

    def _perform(self, event: dict[str, Any]) -> bool:
        """Makes the call; False if the store failed, so that the call must be kept."""
        arguments = {key: value for key, value in event.items() if key != "do"}
        if event["do"] == "start":
            arguments["run"] = Run(**arguments["run"])
        try:
            getattr(self.tracker, event["do"])(**arguments)
        except self.tracker.failures() as error:
            if self.tracker.refuses(error):
                log.warning("tracking: %s rejected %s: %s", self.tracker.title, event["do"], _short(error))
                return True
            if not self._kept:
                log.warning(
                    "tracking: cannot reach %s (%s). The run continues; what cannot be logged now is kept in %s and "
                    "sent later",
                    self.tracker.title,
                    _short(error),
                    self._folder,
                )
            self._paused_until = time.monotonic() + PAUSE
            return False
        return True

    def _keep(self, event: dict[str, Any]) -> None:
        key = event["run"]["key"] if event["do"] == "start" else event["run"]
        before = [] if key in self._kept or event["do"] == "start" else [self._starts[key]]
        self._kept.add(key)
        try:
            path, file = self._open_journal()
            file.writelines(f"{json.dumps(one)}\n" for one in (*before, _with_copy(event, path.with_suffix(""))))
            file.flush()
        except OSError as error:
            log.warning("tracking: lost the call %s, which could not be kept on disk either: %s", event["do"], error)

    def _open_journal(self) -> tuple[Path, IO[str]]:
        if self._journal is None or self._journal[0] != os.getpid():  # a forked worker writes its own
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self.tracker.title}-{uuid.uuid4().hex}.jsonl"
            file = path.open("a", encoding="utf-8")
            lock(file, shared_with_forks=True)
            self._journal = os.getpid(), path, file
        return self._journal[1:]


def _with_copy(event: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The event with a copy of its file or folder, because the next run overwrites the original."""
    if "path" not in event:
        return event
    source = Path(event["path"])
    copy = folder / str(sum(1 for _ in folder.glob("*"))) / source.name
    copy.parent.mkdir(parents=True)
    if source.is_dir():
        shutil.copytree(source, copy)
    else:
        shutil.copy2(source, copy)
    return {**event, "path": str(copy)}


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a journal, without a last line that a killed process left unfinished."""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def _short(error: Exception) -> str:
    return " ".join(without_credentials(str(error)).split())[:300]
