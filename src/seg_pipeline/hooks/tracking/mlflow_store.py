"""The mlflow store: the server of ``MLFLOW_TRACKING_URI``, or else mlflow.db and mlartifacts in the project folder.

Every call passes the run's id, because mlflow's fluent "active run" differs between threads.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from seg_pipeline.hooks.tracking.tracker import Row, Run, Status, Tracker, Unavailable, without_credentials
from seg_pipeline.segmentation.storage.atomic import replacing
from seg_pipeline.segmentation.storage.locks import held

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as Stored
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

SQLITE = "sqlite:///"
KEY, PROCESS = "seg_pipeline.run", "seg_pipeline.process"
MOST_PARAMS, MOST_METRICS = 100, 1000
"""Limits of one ``log_batch`` call."""
LONGEST_PARAM, LONGEST_TAG = 6000, 8000

T = TypeVar("T")


class MlflowTracker(Tracker):
    """On ``MlflowClient``."""

    title = "mlflow"

    def __init__(self, project: Path, *, system_metrics: bool = False) -> None:
        self._project, self._system_metrics = project, system_metrics
        self._keys: dict[str, str] = {}
        """Key of each metric."""
        self._monitors: dict[str, SystemMetricsMonitor] = {}
        self._runs: dict[str, str] = {}

    @property
    def uri(self) -> str:
        beside = (self._project / "mlflow.db").as_posix()
        return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{beside}"

    def failures(self) -> tuple[type[Exception], ...]:
        from alembic.util import CommandError
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        return MlflowException, SQLAlchemyError, CommandError, OSError, ImportError, Unavailable

    def refuses(self, error: Exception) -> bool:
        return getattr(error, "error_code", "") in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST")

    def lost(self, error: Exception) -> bool:
        return getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"

    def start(self, run: Run) -> None:
        experiment = self._experiment(run.experiment)
        if run.parent is None:
            self._end_killed_runs(experiment)
        found = self._found(experiment, f"tags.`{KEY}` = '{run.key}'")
        process = {PROCESS: f"{socket.gethostname()} {_process_id(os.getpid())}"}
        if found:
            self._runs[run.key] = found[0].info.run_id
            self._client.update_run(self._runs[run.key], status="RUNNING")
            self.tags(run.key, process)
        else:
            self._create(run, experiment, process)
        if self._system_metrics and run.parent is None and run.key not in self._monitors:
            self._monitor(run.key)

    def _create(self, run: Run, experiment: str, process: dict[str, str]) -> None:
        above = {"mlflow.parentRunId": self._runs[run.parent]} if run.parent else {}
        tags = {KEY: run.key, **process, **above}
        made = self._client.create_run(experiment, start_time=run.begun, run_name=run.name, tags=tags)
        self._runs[run.key] = made.info.run_id

    def _monitor(self, run: str) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)  # lines about a store that fails
        monitor = SystemMetricsMonitor(self._runs[run], resume_logging=True, tracking_uri=self.uri)
        monitor.start()
        self._monitors[run] = monitor

    def where(self, run: Run) -> str:
        uri = self.uri
        show = (
            f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
            if uri.startswith("sqlite:")
            else without_credentials(uri)
        )
        return f"mlflow run {self._runs[run.key]} in experiment {run.experiment!r}; view it with: {show}"

    def params(self, run: str, values: dict[str, Any]) -> None:
        """Parameters are immutable in mlflow: a value that a resumed run changed becomes tag ``resumed.NAME``."""
        from mlflow.entities import Param

        there = self._client.get_run(self._runs[run]).data.params
        texts = {_key(name): str(value)[:LONGEST_PARAM] for name, value in values.items()}
        for some in _parts([Param(*one) for one in texts.items() if one[0] not in there], MOST_PARAMS):
            self._client.log_batch(self._runs[run], params=some)
        self.tags(run, {f"resumed.{name}": text for name, text in texts.items() if there.get(name, text) != text})

    def tags(self, run: str, values: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        for some in _parts([RunTag(_key(name), text[:LONGEST_TAG]) for name, text in values.items()], MOST_PARAMS):
            self._client.log_batch(self._runs[run], tags=some)

    def metrics(self, run: str, rows: list[Row], at: int) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(self._metric_key(name), value, at, row["step"])
            for row in rows
            for name, value in row["values"].items()
        ]
        for some in _parts(points, MOST_METRICS):
            self._client.log_batch(self._runs[run], metrics=some)

    def _metric_key(self, name: str) -> str:
        """A valid key; numbered if that of another name is the same, as of the classes "a*b" and "a+b"."""
        if name not in self._keys:
            key, number, taken = _key(name), 1, set(self._keys.values())
            while (text := key if number == 1 else f"{key[:245]}_{number}") in taken:
                number += 1
            self._keys[name] = text
        return self._keys[name]

    def artifact(self, run: str, path: str, folder: str) -> None:
        if Path(path).is_dir():
            self._client.log_artifacts(self._runs[run], path, folder)
        else:
            self._client.log_artifact(self._runs[run], path, folder)

    def image(self, run: str, path: str, name: str, step: int, at: int) -> None:
        """As mlflow's page shows it: a picture with a slider over the steps, for several runs side by side."""
        from PIL import Image

        with Image.open(path) as picture:
            self._client.log_image(self._runs[run], picture, key=name, step=step, timestamp=at, synchronous=True)

    def rename(self, run: str, name: str) -> None:
        self._client.update_run(self._runs[run], name=name)

    def model(self, run: str, path: str, name: str) -> None:
        """As an mlflow logged model, which can be registered by name."""
        stored = self._client.get_run(self._runs[run])
        model = self._client.create_logged_model(stored.info.experiment_id, name, source_run_id=stored.info.run_id)
        self._client.log_model_artifacts(model.model_id, path)
        self._client.finalize_logged_model(model.model_id, "READY")
        self.tags(run, {f"model.{name}": f"models:/{model.model_id}"})

    def finish(self, run: str, status: Status) -> None:
        if monitor := self._monitors.pop(run, None):
            monitor.finish()
        self._client.set_terminated(self._runs[run], status)

    @cached_property
    def _client(self) -> MlflowClient:
        set_defaults()
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from mlflow.store.db import utils

        utils.MAX_RETRY_COUNT = 3  # the default of 15 attempts at doubling intervals takes an hour
        # 50 lines on a new database, a traceback on a locked one, a line per attempt to reach a server
        for noisy in ("mlflow.store.db.utils", "alembic", "urllib3.connectionpool"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        try:
            with self._only_one_creates():
                return MlflowClient(tracking_uri=self.uri)
        except MlflowException as error:  # a wrong address, not a rejected call: keep the calls
            raise Unavailable(str(error)) from error

    @contextmanager
    def _only_one_creates(self) -> Iterator[None]:
        """Of several first runs at once, one makes the tables of an SQLite file; mlflow itself has no lock for that."""
        with ExitStack() as stack:
            if self.uri.startswith(SQLITE):
                database = Path(self.uri.removeprefix(SQLITE).partition("?")[0])
                database.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(database.with_name(f"{database.name}.lock"), "", wait=True))
                if not database.exists():
                    _make_database(database)
            yield

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        try:
            return found.experiment_id if found else self._new_experiment(name)
        except MlflowException:
            if found := self._client.get_experiment_by_name(name):  # another run was faster
                return found.experiment_id
            raise

    def _new_experiment(self, name: str) -> str:
        database = self.uri.removeprefix(SQLITE)
        local = database != self.uri  # a server chooses the place of artifacts itself
        artifacts = (Path(database).absolute().parent / "mlartifacts").as_uri() if local else None
        kind = {"mlflow.experimentKind": "custom_model_development"}  # or else mlflow's page opens on language models
        return self._client.create_experiment(name, artifact_location=artifacts, tags=kind)

    def _found(self, experiment: str, query: str) -> list[Stored]:
        return list(self._client.search_runs([experiment], query, max_results=500))

    def _end_killed_runs(self, experiment: str) -> None:
        """Sets KILLED on this machine's runs whose process is gone, for example after SIGKILL or a power cut."""
        for one in self._found(experiment, "attributes.status = 'RUNNING'"):
            host, _, process = one.data.tags.get(PROCESS, "").partition(" ")
            pid = process.partition("-")[0]
            if host == socket.gethostname() and pid.isdecimal() and process != _process_id(int(pid)):
                self._client.set_terminated(one.info.run_id, "KILLED")


def _make_database(file: Path) -> None:
    """Make mlflow's tables in a new SQLite file, whole or not at all.

    Its 400 statements wait for the disk once and not one by one, which would take seconds, or minutes on a hard disk.
    """
    from mlflow.store.db import utils
    from sqlalchemy import create_engine, event

    if not hasattr(utils, "_initialize_tables"):
        return  # another release of mlflow, which makes the tables itself when it connects
    with replacing(file) as new:
        engine = create_engine(f"{SQLITE}{new.as_posix()}")
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        try:
            utils._initialize_tables(engine)
        finally:
            engine.dispose()


def _process_id(pid: int) -> str:
    """Number and start of a process, because the system reuses numbers; no clock that may be set has a part in it."""
    import psutil

    with suppress(OSError):  # Linux: start in ticks after boot; the name before it may hold spaces
        return f"{pid}-{Path(f'/proc/{pid}/stat').read_text(errors='replace').rpartition(')')[2].split()[19]}"
    try:
        return f"{pid}-{int(psutil.Process(pid).create_time())}"
    except psutil.NoSuchProcess:
        return f"{pid}-0"


def set_defaults() -> None:
    """Set mlflow's environment variables that the user has not set. Call it before mlflow is imported."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # by default, a dead server delays a run by minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def _parts(values: list[T], most: int) -> list[list[T]]:
    return [values[start : start + most] for start in range(0, len(values), most)]


def _key(name: str) -> str:
    """A valid mlflow name: letters, digits, ``_-./`` and space, at most 250 characters, and a path without dots alone.

    mlflow refuses a whole batch of values for one name, such as that of a class called "../up".
    """
    parts = re.sub(r"[^\w\-./ ]", "_", name)[:250].split("/")
    return "/".join(part if part.strip(".") else "_" * max(1, len(part)) for part in parts)
