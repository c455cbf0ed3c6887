"""Read mutants in a process of their own, with limits on time and memory; one that ends or hangs is replaced."""

import contextlib
import os
import pickle
import random
import tempfile
import time
import traceback
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from tests.runs.fuzz import readers
from tests.runs.fuzz.seeds import forms

SECONDS = 10.0
"""Longest time for one mutant."""
MEMORY = 512 << 20
"""Bytes of resident memory that one mutant may add."""
LIMIT = 2 * MEMORY
"""Bytes of address space that a process may add; beyond it, allocations fail."""
PRELOADED = ["torch", "nibabel", "pydicom", "SimpleITK", "kedro_datasets.pandas", "segmentation_models_pytorch"]
SHOWN = 200
"""Most escapes that are kept of one form."""


class Escape(NamedTuple):
    form: str
    number: int
    what: str
    where: str = ""


class Outcome(NamedTuple):
    mutants: int
    seconds: float
    peak: int
    """Most bytes that a mutant added."""
    slowest: float
    escapes: list[Escape]


def mutant(name: str, number: int, seed: int) -> bytes:
    return forms()[name].mutant(_random(name, number, seed), _others(name))


def _others(name: str) -> list[bytes]:
    return [one.sound for one in forms().values() if one.reader == forms()[name].reader]


def _random(name: str, number: int, seed: int) -> random.Random:
    return random.Random(f"{seed}/{name}/{number}")


def fuzz(name: str, mutants: int, *, seed: int) -> Outcome:
    """Read the first mutants of a form."""
    context = get_context("forkserver")  # a spawned process would import for seconds
    context.set_forkserver_preload(["tests.runs.fuzz.readers", *PRELOADED])
    task = pickle.dumps((forms()[name], _others(name)))
    began, at, escapes, peak, slowest = time.monotonic(), 0, [], 0, 0.0
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        while at < mutants and len(escapes) < SHOWN:
            ours, theirs = context.Pipe()
            current = context.Value("q", -1)
            worker = context.Process(target=_work, args=(theirs, current, name, task, range(at, mutants), seed, folder))
            worker.start()
            theirs.close()
            for message in _messages(ours, current, psutil.Process(worker.pid)):
                if isinstance(message, Escape):
                    escapes.append(message)
                    continue
                peak, slowest = max(peak, message[0]), max(slowest, message[1])
                at = mutants
            if at < mutants:
                hung = worker.is_alive()
                worker.kill()
                worker.join()
                if current.value < 0:
                    raise RuntimeError(f"the process of {name} did not start")
                what = f"takes over {SECONDS:g} s" if hung else f"ends its process ({worker.exitcode})"
                escapes.append(Escape(name, current.value, what))
                at = current.value + 1
            worker.join()
    return Outcome(mutants, time.monotonic() - began, peak, slowest, escapes)


def _messages(pipe: Connection, current: Any, worker: psutil.Process) -> Iterator[Any]:
    """What a worker sends, until it ends or stays at one mutant for too long; a busy machine may make it wait."""
    seen, since, before = current.value, time.monotonic(), 0.0
    while True:
        try:
            if pipe.poll(0.2):
                yield pipe.recv()
        except EOFError:
            return
        with contextlib.suppress(psutil.Error):
            used = sum(worker.cpu_times()[:2])
        if current.value != seen:
            seen, since, before = current.value, time.monotonic(), used
        elif (seen >= 0 and used - before > SECONDS) or time.monotonic() - since > 120:
            return


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _work(pipe: Connection, current: Any, name: str, task: bytes, numbers: range, seed: int, folder: str) -> None:
    import resource

    form, others = pickle.loads(task)
    quiet = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # decoders written in C complain there
        os.dup2(quiet, stream)
    readers.prepare()
    readers.READERS[form.reader](form.sound, Path(folder))  # imports what it needs, before memory is limited
    process, peak, slowest = psutil.Process(), 0, 0.0
    limit = process.memory_info().vms + LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    most = _most_resident()
    for number in numbers:
        data = form.mutant(_random(name, number, seed), others)
        current.value = number
        before, began = process.memory_info().rss, time.monotonic()
        try:
            readers.read(form.reader, data, Path(folder))
        except BaseException as error:  # noqa: BLE001  whatever escapes
            frames = [one for one in traceback.extract_tb(error.__traceback__) if "seg_pipeline" in one.filename]
            where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
            pipe.send(Escape(name, number, f"{type(error).__name__}: {error!s:.200}", where))
        slowest = max(slowest, time.monotonic() - began)
        if (now := _most_resident()) > most:
            most, added = now, now - before
            peak = max(peak, added)
            if added > MEMORY:
                pipe.send(Escape(name, number, f"takes {added >> 20} MiB"))
    pipe.send((peak, slowest))


def _most_resident() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
