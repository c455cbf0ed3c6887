"""Send tracking calls to a store, and keep those that fail in a journal on disk.

A journal is ``tracking_aside/<store>-<uuid>.jsonl``, one call per line, with copies of the files it names in the folder
of the same name. The process that writes it holds a lock on it (``flock``), which the system releases when the process
ends, however it ends: a journal that can be locked belongs to a finished or killed run, and the next run replays it.
Calls are replayed in order and may be repeated, so a replay that fails starts again from the first line.

A journal may be damaged: lines that cannot be used are skipped and counted.
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
SLOW_CALL_SECONDS = 2.0
"""Seconds after which a call without a file counts as slow."""
SLOW_CALL_FACTOR = 10
"""After a slow call, the store is paused for this many times the duration of the call."""


class Outbox:
    """Sends calls to one store; a store that fails never stops the run, and costs it at most one warning."""

    def __init__(self, tracker: Tracker, project: Path) -> None:
        self.tracker, self._folder = tracker, project / FOLDER
        self._start_calls: dict[str, dict[str, Any]] = {}
        self._started: set[str] = set()
        """Keys of runs that this process has started in the store."""
        self._runs_in_journal: set[str] = set()
        self._problem = ""
        """Error message of the last failed call."""
        self._logged_warnings: set[str] = set()
        self._paused_until = 0.0
        self._journal: tuple[int, Path, IO[bytes]] | None = None
        """Process, path and locked file of the journal."""
        self._lock = threading.RLock()  # with the ThreadRunner, nodes save at the same time

    def send(self, method: str, **arguments: Any) -> None:
        """Call a method of the tracker, now or later. The arguments must be JSON values."""
        call, start = {"do": method, **arguments}, time.monotonic()
        with self._lock:
            if method == "start":
                self._start_calls[arguments["run"]["key"]] = call
            paused = time.monotonic() < self._paused_until or (self._runs_in_journal and self.flush())
            sent = not paused and self._perform(call)
            if not sent:
                self._keep(call)
            may_take_long = sent and (method == "start" or "path" in arguments)
            if (seconds := time.monotonic() - start) > SLOW_CALL_SECONDS and not may_take_long:
                self._pause(SLOW_CALL_FACTOR * seconds)

    def where(self, run: Run) -> str:
        """The run and the command that shows it, or the journal that holds it."""
        if self._runs_in_journal:
            return f"{self.tracker.title}: kept in {self._journal[1] if self._journal else self._folder}"
        if run.key in self._started:
            return self.tracker.where(run)
        return f"{self.tracker.title}: not recorded ({self._problem})"

    def flush(self) -> Path | None:
        """Replay this process's journal; return its path if some calls could not be sent."""
        with self._lock:
            if self._runs_in_journal and self._journal and self._journal[0] == os.getpid():
                _, path, file = self._journal
                if not self._replay(path):
                    return path
                file.close()
                self._journal = None
            self._runs_in_journal.clear()
            return None

    def close(self) -> Path | None:
        """``flush`` at the end of a run; the next run sends what is left in the journal."""
        with self._lock:
            unsent = self.flush()
            if self._journal:
                self._journal[2].close()  # this releases the lock
            return unsent

    def send_leftovers(self) -> None:
        """Replay the journals of earlier runs of this project, until the store fails again."""
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
            log.info("tracking: calls kept in %s have been sent to %s", self._folder, self.tracker.title)

    def _replay(self, path: Path, *, ended: bool = False) -> bool:
        """Send a journal and remove it; False if the store failed. ``ended``: its unfinished runs were killed."""
        unfinished: dict[str, None] = {}
        unusable = 0
        for call in _read_calls(path):
            try:
                if call["do"] == "start":
                    self._start_calls.setdefault(call["run"]["key"], call)
                if not self._perform(call):
                    return False
                if call["do"] == "start":
                    unfinished[call["run"]["key"]] = None
                elif call["do"] == "finish":
                    unfinished.pop(call["run"], None)
            except (AttributeError, KeyError, TypeError, ValueError):
                unusable += 1
        if unusable:
            log.warning("tracking: %d damaged line%s of %s skipped", unusable, "s" * (unusable > 1), path)
        if ended and not all(self._perform({"do": "finish", "run": key, "status": "KILLED"}) for key in unfinished):
            return False
        with suppress(OSError):  # the folder has become read-only; the calls are sent again
            path.unlink(missing_ok=True)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        return True

    def _perform(self, call: dict[str, Any], *, is_retry: bool = False) -> bool:
        """Make the call; False if the store failed, so that the call must be kept."""
        arguments = {key: value for key, value in call.items() if key != "do"}
        is_start = call["do"] == "start"
        key, required_run = (call["run"]["key"], call["run"]["parent"]) if is_start else (call["run"],) * 2
        # the store failed when the run started, or has lost it
        if required_run is not None and required_run not in self._started:
            if not self._perform(self._start_calls[required_run]):
                return False
            if required_run not in self._started:
                return True  # the store rejected it
        if is_start:
            arguments["run"] = Run(**call["run"])
        try:
            getattr(self.tracker, call["do"])(**arguments)
        except self.tracker.failures() as error:
            if self.tracker.lost(error) and not is_retry:
                self._started.clear()
                return self._perform(call, is_retry=True)
            if self.tracker.refuses(error):
                self._warn(f"{self.tracker.title} rejected {call['do']}: {_short(error)}")
                return True
            self._problem = _short(error)
            self._pause(PAUSE)
            return False
        self._started.add(key)
        return True

    def _pause(self, seconds: float) -> None:
        """Make no call for at least ``seconds``."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def _keep(self, call: dict[str, Any]) -> None:
        start_calls = [one for one in self._required_starts(call) if one["run"]["key"] not in self._runs_in_journal]
        name, problem = self.tracker.title, self._problem
        prefix = f"cannot reach {name} ({problem}). The run continues; " if problem else f"{name} is slow; "
        try:
            path, file = self._open_journal()
            _append(file, [*start_calls, _with_copy(call, path.with_suffix(""))])
        except OSError as error:
            lost = f"calls that fail now are lost, because {self._folder} cannot be written either"
            self._warn(f"{prefix}{lost} ({error.strerror or error})", kind="unreachable")
            return
        self._runs_in_journal |= {one["run"]["key"] for one in start_calls}
        if call["do"] == "start":
            self._runs_in_journal.add(call["run"]["key"])
        if problem:
            self._warn(f"{prefix}calls that fail now are kept in {self._folder} and sent later", kind="unreachable")

    def _required_starts(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        """Start calls, outermost run first, that the next process must send before this call."""
        key = call["run"]["parent"] if call["do"] == "start" else call["run"]
        return [] if key is None else [*self._required_starts(self._start_calls[key]), self._start_calls[key]]

    def _warn(self, text: str, kind: str = "") -> None:
        """Log each text, or each ``kind`` of text, once."""
        if (kind or text) not in self._logged_warnings:
            log.warning("tracking: %s", text)
        self._logged_warnings.add(kind or text)

    def _open_journal(self) -> tuple[Path, IO[bytes]]:
        if self._journal is None or self._journal[0] != os.getpid():  # a forked worker writes its own
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self.tracker.title}-{uuid.uuid4().hex}.jsonl"
            file = path.open("ab", buffering=0)
            lock(file, shared_with_forks=True)
            self._journal = os.getpid(), path, file
        return self._journal[1:]


def _append(file: IO[bytes], calls: list[dict[str, Any]]) -> None:
    """Append all lines completely, or nothing."""
    unwritten = memoryview("".join(f"{json.dumps(one, default=str)}\n" for one in calls).encode())  # as stores write it
    size = os.fstat(file.fileno()).st_size
    try:
        while unwritten:
            unwritten = unwritten[file.write(unwritten) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(file.fileno(), size)
        raise


def _with_copy(call: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The call with a copy of its file or folder, because the next run overwrites the original."""
    if "path" not in call:
        return call
    source = Path(call["path"])
    copy = folder / str(sum(1 for _ in folder.glob("*"))) / source.name
    copy.parent.mkdir(parents=True)
    if source.is_dir():
        shutil.copytree(source, copy)
    else:
        shutil.copy2(source, copy)
    return {**call, "path": copy.relative_to(folder).as_posix()}


def _read_calls(path: Path) -> Iterator[dict[str, Any]]:
    """Calls in a journal, with absolute paths; an empty dict for a line without a valid call.

    An incomplete last line, left by a killed process, is skipped.
    """
    folder = path.with_suffix("").resolve()
    content = b"\n"  # if the journal cannot be read
    with suppress(OSError):
        content = path.read_bytes()
    for line in content.split(b"\n")[:-1]:
        call: dict[str, Any] = {}
        with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            parsed = json.loads(line)
            if parsed["do"] in CALLS:
                if "path" in parsed:
                    parsed["path"] = str((folder / parsed["path"]).resolve(strict=True).relative_to(folder))
                    parsed["path"] = str(folder / parsed["path"])
                call = parsed
        yield call


def _short(error: Exception) -> str:
    return " ".join(without_credentials(str(error)).split())[:300]
