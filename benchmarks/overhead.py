"""Training with tracking, live figures or checkpoints (a) and with none of them (b). Tracking costs less than 1 %; a
checkpoint after every epoch costs most.

One run of the training pipeline on the sample, as it is shipped, its progress bar on a terminal. The time of each part
is taken within it: two runs of a minute differ by more than these parts take.
"""

import contextlib
import logging
import math
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from side_by_side import Result, judge, report
from tqdm import tqdm

from seg_pipeline.datasets.checkpoint import CheckpointDataset
from seg_pipeline.datasets.figure import LiveFigureDataset
from seg_pipeline.hooks.tracking import TrackingHooks
from seg_pipeline.segmentation.exploration.contact_sheets import TrainingFigures
from seg_pipeline.segmentation.training import epoch
from seg_pipeline.segmentation.training.progress import Bar

SHRINK = int(os.environ.get("BENCH_SHRINK", "1"))
ROOT = Path(__file__).resolve().parents[1]
EPOCHS = max(25 // SHRINK, 2)

Seconds = dict[str, float]


def timed(name: str, function: Callable, seconds: Seconds) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[name] += time.perf_counter() - began

    return call


def timed_fit(fit: Callable, seconds: Seconds) -> Callable:
    """``epoch.fit`` with the seconds within it, and when it was begun."""

    def call(*args: Any, **kwargs: Any) -> Iterator[dict | None]:
        seconds["began"] = time.perf_counter()
        rows, end = fit(*args, **kwargs), object()
        following = timed("fit", lambda: next(rows, end), seconds)
        while (row := following()) is not end:
            yield row

    return call


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    """Standard error is a terminal, whose text goes nowhere; standard output goes there too."""
    ours, theirs = os.openpty()

    def empty() -> None:
        with contextlib.suppress(OSError):  # the other end was closed
            while os.read(ours, 1 << 16):
                pass

    reader = threading.Thread(target=empty, daemon=True)
    reader.start()
    with os.fdopen(theirs, "w") as screen, contextlib.redirect_stderr(screen), contextlib.redirect_stdout(screen):
        yield
    reader.join()
    os.close(ours)


def run(pipeline: str, params: dict[str, Any]) -> None:
    with KedroSession.create(project_path=ROOT, runtime_params=params) as session:
        assert isinstance(session, KedroSession)
        session.run(pipeline_names=[pipeline])


def parts_of_a_run(folder: Path) -> Seconds:
    """Seconds of each part of a training: ``fit`` without its bar, bar, saving, figures, and the rest."""
    roots = {"data_root": str(folder / "out"), "raw_root": str(folder / "raw")}
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    training = {"fit": {"epochs": EPOCHS}, "use_search_result": False, "compute": {"device": "cpu"}}
    seconds: Seconds = defaultdict(float)
    watched = [
        (CheckpointDataset, "save", "saving"),
        (TrainingFigures, "update", "figures"),
        (LiveFigureDataset, "save", "figures"),
        (TrackingHooks, "_start", "start of mlflow"),
        (TrackingHooks, "_describe_run", "start of mlflow"),
        (TrackingHooks, "_track_model", "model"),
        *((Bar, method, "bar") for method in ("__init__", "__exit__", "show")),
        (tqdm, "update", "bar"),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(terminal())
        run("data_processing", {**roots, "tracking": {"enabled": False}})
        stack.enter_context(patch.object(epoch, "fit", timed_fit(epoch.fit, seconds)))
        for owner, method, name in watched:
            stack.enter_context(patch.object(owner, method, timed(name, getattr(owner, method), seconds)))
        run("training", {**roots, "training": training})
        whole = time.perf_counter() - seconds.pop("began")
    seconds["rest"] = whole - sum(seconds[name] for name in ("fit", "saving", "figures", "model"))
    seconds["fit"] -= seconds["bar"]
    return seconds


def measure(folder: Path) -> Iterator[Result]:
    seconds = parts_of_a_run(folder)
    bare, bar, rest, saving = (seconds[name] for name in ("fit", "bar", "rest", "saving"))
    yield judge(
        "train_with_tracking",
        [bare + bar + rest],
        [bare],
        limit=1.02,
        note=(
            f"{EPOCHS} epochs on the sample with default settings; progress bar {bar:.2f} s, mlflow, history "
            f"and Kedro {rest:.2f} s; once a run, the start takes {seconds['start of mlflow']:.1f} s more, the best "
            f"model {seconds['model']:.1f} s"
        ),
    )
    yield judge(
        "train_with_figures",
        [bare + seconds["figures"]],
        [bare],
        limit=math.inf,
        note="curves and validation sheet",
    )
    yield judge(
        "train_with_saving",
        [bare + saving],
        [bare],
        limit=math.inf,
        note="last and best checkpoint after each epoch, synced to disk",
    )


if __name__ == "__main__":
    logging.disable(logging.INFO)
    bootstrap_project(ROOT)
    with tempfile.TemporaryDirectory() as name:
        sys.exit(max([report(result) for result in measure(Path(name))]))
