"""Delivery of tracking calls to a store, with a journal on disk for what a failing store misses.

A journal is ``tracking_aside/<store>-<uuid>.jsonl``, one call per line, with copies of the files it names in the folder
of the same name. The process that writes it holds a lock on it (``flock``), which the system releases when the process
ends, however it ends: a journal that can be locked belongs to a finished or killed run, and the next run replays it.
Calls are replayed in order and may be repeated, so a replay that fails starts again from the first line.

A journal is input like any other: lines that cannot be used are skipped and counted.
"""

import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from seg_pipeline.hooks.tracking.tracker import Run, Tracker, without_credentials
from seg_pipeline.segmentation.storage.locks import lock

log = logging.getLogger(__name__)

FOLDER = "tracking_aside"
CALLS = ("start", "params", "tags", "metrics", "artifact", "figure", "image", "rename", "model", "finish")
PAUSE = 60.0
"""Seconds without a new attempt after a failure. mlflow waits 20 s for a database lock, three times."""
SLOW = 2.0
"""Seconds after which a call that carries no file counts as slow."""
REST = 10
"""A store that fails or is slow is left alone for so many times as long as the call took."""


class Outbox:
    """Sends calls to one store; a store that fails never stops the run, and costs it at most one warning."""

    def __init__(self, tracker: Tracker, project: Path) -> None:
        self.tracker, self._folder = tracker, project / FOLDER
        self._starts: dict[str, dict[str, Any]] = {}
        self._known: set[str] = set()
        """Runs that the store knows in this process."""
        self._kept: set[str] = set()
        self._problem = ""
        """What the last failed call ended with."""
        self._warnings: set[str] = set()
        self._paused_until = 0.0
        self._journal: tuple[int, Path, IO[bytes]] | None = None
        """Process, path and locked file of the journal."""
        self._lock = threading.RLock()  # with the ThreadRunner, nodes save at the same time

    def send(self, do: str, **arguments: Any) -> None:
        """Calls the tracker's method ``do``, now or later. The arguments must be JSON values."""
        event, began = {"do": do, **arguments}, time.monotonic()
        with self._lock:
            if do == "start":
                self._starts[arguments["run"]["key"]] = event
            waits = time.monotonic() < self._paused_until or (self._kept and self.flush())
            sent = not waits and self._perform(event)
            if not sent:
                self._keep(event)
            may_take_long = sent and (do == "start" or "path" in arguments)
            if (took := time.monotonic() - began) > SLOW and not may_take_long:
                self._pause(REST * took)

    def where(self, run: Run) -> str:
        """The run and the command that shows it, or the journal that holds it."""
        if self._kept:
            return f"{self.tracker.title}: kept in {self._journal[1] if self._journal else self._folder}"
        if run.key in self._known:
            return self.tracker.where(run)
        return f"{self.tracker.title}: not recorded ({self._problem})"

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
                file = path.open("r+b")
            except OSError:  # another run has just sent and removed it, or it is another user's
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
        unusable = 0
        for event in _events(path):
            try:
                if event["do"] == "start":
                    self._starts.setdefault(event["run"]["key"], event)
                if not self._perform(event):
                    return False
                if event["do"] == "start":
                    unfinished[event["run"]["key"]] = None
                elif event["do"] == "finish":
                    unfinished.pop(event["run"], None)
            except (AttributeError, KeyError, TypeError, ValueError):
                unusable += 1
        if unusable:
            log.warning("tracking: %d damaged line%s of %s skipped", unusable, "s" * (unusable > 1), path)
        if ended and not all(self._perform({"do": "finish", "run": key, "status": "KILLED"}) for key in unfinished):
            return False
        with suppress(OSError):  # a folder that has become read-only; the lines are sent again
            path.unlink(missing_ok=True)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        return True

    def _perform(self, event: dict[str, Any], *, again: bool = False) -> bool:
        """Makes the call; False if the store failed, so that the call must be kept."""
        arguments = {key: value for key, value in event.items() if key != "do"}
        starts = event["do"] == "start"
        key, needs = (event["run"]["key"], event["run"]["parent"]) if starts else (event["run"],) * 2
        if needs is not None and needs not in self._known:  # the store failed when it started, or has lost it
            if not self._perform(self._starts[needs]):
                return False
            if needs not in self._known:
                return True  # the store rejected it
        if starts:
            arguments["run"] = Run(**event["run"])
        try:
            getattr(self.tracker, event["do"])(**arguments)
        except self.tracker.failures() as error:
            if self.tracker.lost(error) and not again:
                self._known.clear()
                return self._perform(event, again=True)
            if self.tracker.refuses(error):
                self._warn(f"{self.tracker.title} rejected {event['do']}: {_short(error)}")
                return True
            self._problem = _short(error)
            self._pause(PAUSE)
            return False
        self._known.add(key)
        return True

    def _pause(self, seconds: float) -> None:
        """Make no call for at least so long."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def _keep(self, event: dict[str, Any]) -> None:
        missing = [one for one in self._needed(event) if one["run"]["key"] not in self._kept]
        name, problem = self.tracker.title, self._problem
        told = f"cannot reach {name} ({problem}). The run continues; " if problem else f"{name} is slow; "
        try:
            path, file = self._open_journal()
            _append(file, [*missing, _with_copy(event, path.with_suffix(""))])
        except OSError as error:
            lost = f"what cannot be logged now is lost, as it cannot be kept in {self._folder} either"
            self._warn(f"{told}{lost} ({error.strerror or error})", kind="unreachable")
            return
        self._kept |= {one["run"]["key"] for one in missing}
        if event["do"] == "start":
            self._kept.add(event["run"]["key"])
        if problem:
            self._warn(f"{told}what cannot be logged now is kept in {self._folder} and sent later", kind="unreachable")

    def _needed(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """The starts of runs, outermost first, without which the next process could not send a call."""
        key = event["run"]["parent"] if event["do"] == "start" else event["run"]
        return [] if key is None else [*self._needed(self._starts[key]), self._starts[key]]

    def _warn(self, text: str, kind: str = "") -> None:
        """Log each text, or each ``kind`` of them, once."""
        if (kind or text) not in self._warnings:
            log.warning("tracking: %s", text)
        self._warnings.add(kind or text)

    def _open_journal(self) -> tuple[Path, IO[bytes]]:
        if self._journal is None or self._journal[0] != os.getpid():  # a forked worker writes its own
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self.tracker.title}-{uuid.uuid4().hex}.jsonl"
            file = path.open("ab", buffering=0)
            lock(file, shared_with_forks=True)
            self._journal = os.getpid(), path, file
        return self._journal[1:]


def _append(file: IO[bytes], events: list[dict[str, Any]]) -> None:
    """Append whole lines or nothing."""
    left = memoryview("".join(f"{json.dumps(one, default=str)}\n" for one in events).encode())  # as stores write it
    size = os.fstat(file.fileno()).st_size
    try:
        while left:
            left = left[file.write(left) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(file.fileno(), size)
        raise


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
    return {**event, "path": copy.relative_to(folder).as_posix()}


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """Calls in a journal, with whole paths; an empty one in place of a line that holds no call.

    A last line that a killed process left unfinished is left out.
    """
    folder = path.with_suffix("").resolve()
    content = b"\n"  # of a journal that cannot be read
    with suppress(OSError):
        content = path.read_bytes()
    for line in content.split(b"\n")[:-1]:
        event: dict[str, Any] = {}
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            found = json.loads(line)
            if found["do"] in CALLS:
                if "path" in found:
                    found["path"] = str((folder / found["path"]).resolve(strict=True).relative_to(folder))
                    found["path"] = str(folder / found["path"])
                event = found
        yield event


def _short(error: Exception) -> str:
    return " ".join(without_credentials(str(error)).split())[:300]
