"""One trial: a short training that yields its history rows, and goes on from its own checkpoint where it was killed."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd
import torch

from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.processes import OutOfMemory, TrainingFailed
from seg_pipeline.segmentation.training.run import train_one

log = logging.getLogger(__name__)

DIGEST = hashlib.sha256().digest_size
End = Literal["complete", "pruned", "diverged", "failed"]


@dataclass(frozen=True)
class Place:
    """What all trials of a search share."""

    manifest: pd.DataFrame
    compute: ComputeSettings
    cache_folder: Path | None
    folder: Path
    """Of the checkpoints."""
    save_seconds: float = 20.0
    threads: int | None = None

    def checkpoint(self, key: str) -> Path:
        return self.folder / f"{key}.pt"


@dataclass(frozen=True)
class Job:
    key: str
    config: dict


@dataclass(frozen=True)
class Event:
    """A row of the history, or the end of a trial."""

    row: dict | None = None
    end: End | None = None
    reason: str = ""


def trial_key(config: TrainingConfig, data_hash: str) -> str:
    """The same for the same training on the same data."""
    text = json.dumps([config.to_dict(), data_hash], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def run_trial(job: Job, place: Place) -> Generator[Event, None, None]:
    """Its rows from the first on, those of an earlier life too, then its end."""
    try:
        for row in _rows(job, place):
            yield Event(row=row)
    except OutOfMemory as error:
        yield Event(end="failed", reason=str(error))
    except TrainingFailed as error:
        yield Event(end="diverged", reason=str(error))
    except ValueError as error:  # settings that do not go together
        yield Event(end="failed", reason=str(error))
    else:
        yield Event(end="complete")


def _rows(job: Job, place: Place) -> Iterator[dict]:
    saved = load_checkpoint(place.checkpoint(job.key))
    told, saved_at = 0, time.monotonic()
    compute = replace(place.compute, save_minutes=place.save_seconds / 60)
    for state in train_one(place.manifest, TrainingConfig.from_dict(job.config), compute, saved, place.cache_folder):
        if not state["finished"] and time.monotonic() - saved_at >= place.save_seconds:
            _save(state, place.checkpoint(job.key))
            saved_at = time.monotonic()
        yield from state["history"][told:]
        told = len(state["history"])


def _save(state: dict, file: Path) -> None:
    """The sha256 of a checkpoint, then the checkpoint."""
    stream = io.BytesIO()
    torch.save(state, stream)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with draft.open("wb") as target:
        target.write(hashlib.sha256(stream.getbuffer()).digest())
        target.write(stream.getbuffer())
        target.flush()
        os.fsync(target.fileno())
    draft.replace(file)


def load_checkpoint(file: Path) -> dict | None:
    """None where there is none, or one that is damaged: the trial then starts anew."""
    if not file.exists():
        return None
    digest, content = (text := file.read_bytes())[:DIGEST], text[DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        log.warning("%s is damaged, so its trial starts anew", file)
        return None
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


class Runner:
    """Runs one trial at a time, step by step, in the process that it lives in."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._events: Generator[Event, None, None] | None = None
        if place.threads:
            torch.set_num_threads(place.threads)

    def begin(self, job: Job) -> Event:
        self._events = run_trial(job, self.place)
        return next(self._events)

    def advance(self) -> Event:
        assert self._events is not None
        return next(self._events)

    def stop(self) -> None:
        if self._events is not None:
            self._events.close()
