"""Between the collector and a store: what the store does not take now waits in a file beside the project.

The file is named after the process that writes it. It is replayed, in order, once the store answers: by that process
while it lives, at the latest at its end; after that by the next run. Every call may be repeated, so a replay that is
broken off starts from the file's first line again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seg_pipeline.hooks.tracking.process_life import life_of, lives
from seg_pipeline.hooks.tracking.tracker import Run, Tracker, public

log = logging.getLogger(__name__)

FOLDER = "tracking_aside"
PAUSE = 60.0
"""Seconds without a try after a failure: mlflow waits 20 s for a lock, three times over."""


class Outbox:
    """Sends calls to a tracker; never raises for a store that fails, and never loses a call without a word."""

    def __init__(self, tracker: Tracker, project: Path) -> None:
        self.tracker, self._folder = tracker, project / FOLDER
        self._starts: dict[str, dict[str, Any]] = {}
        self._kept: set[str] = set()
        self._paused_until = 0.0
        self._lock = threading.RLock()  # a ThreadRunner's nodes save at the same time

    @property
    def journal(self) -> Path:
        """Of this process; a forked one has its own."""
        return self._folder / f"{self.tracker.title}-{life_of(os.getpid())}.jsonl"

    def send(self, do: str, **arguments: Any) -> None:
        """Calls the tracker's method ``do``, now or later; arguments as JSON has them."""
        event = {"do": do, **arguments}
        with self._lock:
            if do == "start":
                self._starts[arguments["run"]["key"]] = event
            waits = self._kept and (time.monotonic() < self._paused_until or self.flush())
            if waits or not self._perform(event):
                self._keep(event)

    def where(self, run: Run) -> str:
        """The run, and what shows it; or where it waits."""
        return f"{self.tracker.title}: kept in {self.journal}" if self._kept else self.tracker.where(run)

    def flush(self) -> Path | None:
        """Tries to replay what this process kept; the file where some is left."""
        with self._lock:
            if self._kept and not self._replay(self.journal):
                return self.journal
            self._kept.clear()
            return None

    def take_up(self) -> None:
        """Replays what runs that have ended left behind."""
        for file in sorted(self._folder.glob(f"{self.tracker.title}-*.jsonl")):
            owner, origin = _parts(file)
            if lives(owner):
                continue
            mine = file.with_name(f"{self.tracker.title}-{life_of(os.getpid())}.{origin}.jsonl")
            try:
                file.rename(mine)  # of two runs that try, one succeeds
            except FileNotFoundError:
                continue
            if not self._replay(mine, ended=True):
                return  # it is the next run's turn
            log.info("tracking: %s has now what had been kept in %s", self.tracker.title, self._folder)

    def _replay(self, file: Path, *, ended: bool = False) -> bool:
        """Whether all of it is sent; the file is gone then. ``ended``: runs without an end were killed."""
        open_runs: dict[str, None] = {}
        for event in _events(file):
            if not self._perform(event):
                return False
            if event["do"] == "start":
                open_runs[event["run"]["key"]] = None
            elif event["do"] == "finish":
                open_runs.pop(event["run"], None)
        if ended and not all(self._perform({"do": "finish", "run": key, "status": "KILLED"}) for key in open_runs):
            return False
        file.unlink(missing_ok=True)
        shutil.rmtree(_files_of(file), ignore_errors=True)
        return True

    def _perform(self, event: dict[str, Any]) -> bool:
        arguments = {key: value for key, value in event.items() if key != "do"}
        if event["do"] == "start":
            arguments["run"] = Run(**arguments["run"])
        try:
            getattr(self.tracker, event["do"])(**arguments)
        except self.tracker.failures() as error:
            if self.tracker.refuses(error):
                log.warning("tracking: %s does not take %s: %s", self.tracker.title, event["do"], _short(error))
                return True
            if not self._kept:
                log.warning(
                    "tracking: %s cannot be reached (%s). The run goes on; what is not logged now is kept in %s and "
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
            self._folder.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(one) for one in (*before, self._with_files(event))]
            with self.journal.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
        except OSError as error:
            log.warning("tracking: lost a call of %s, as it cannot be kept either: %s", event["do"], error)

    def _with_files(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event with a copy of its file, as the next run overwrites the original."""
        if "path" not in event:
            return event
        folder = _files_of(self.journal)
        copy = folder / str(sum(1 for _ in folder.glob("*"))) / Path(event["path"]).name
        copy.parent.mkdir(parents=True)
        if Path(event["path"]).is_dir():
            shutil.copytree(event["path"], copy)
        else:
            shutil.copy2(event["path"], copy)
        return {**event, "path": str(copy)}


def started(run: Run) -> dict[str, Any]:
    return asdict(run)


def _events(file: Path) -> Iterator[dict[str, Any]]:
    """Lines of a journal; a last one that was broken off is left out."""
    if not file.exists():
        return
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def _parts(journal: Path) -> tuple[str, str]:
    """The processes that own it and that wrote it: "mlflow-OWNER.WRITER.jsonl", or "mlflow-BOTH.jsonl"."""
    owner, *writer = journal.stem.partition("-")[2].split(".")
    return owner, (writer or [owner])[0]


def _files_of(journal: Path) -> Path:
    """Folder of the copies; it keeps its name when another process takes the journal up."""
    return journal.with_name(f"{journal.name.partition('-')[0]}-{_parts(journal)[1]}")


def _short(error: Exception) -> str:
    return " ".join(public(str(error)).split())[:300]
