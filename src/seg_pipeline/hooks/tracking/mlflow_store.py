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
KEY_TAG, PROCESS_TAG = "seg_pipeline.run", "seg_pipeline.process"
MAX_PARAMS, MAX_METRICS = 100, 1000
"""Limits of one ``log_batch`` call."""
MAX_PARAM_LENGTH, MAX_TAG_LENGTH = 6000, 8000

T = TypeVar("T")


class MlflowTracker(Tracker):
    """Logs through ``MlflowClient``."""

    title = "mlflow"

    def __init__(self, project: Path, *, system_metrics: bool = False) -> None:
        self._project, self._system_metrics = project, system_metrics
        self._metric_keys: dict[str, str] = {}
        """Key of each metric."""
        self._monitors: dict[str, SystemMetricsMonitor] = {}
        self._runs: dict[str, str] = {}

    @property
    def uri(self) -> str:
        database = (self._project / "mlflow.db").as_posix()
        return os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{database}"

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
        stored_runs = self._search(experiment, f"tags.`{KEY_TAG}` = '{run.key}'")
        process = {PROCESS_TAG: f"{socket.gethostname()} {_process_id(os.getpid())}"}
        if stored_runs:
            self._runs[run.key] = stored_runs[0].info.run_id
            self._client.update_run(self._runs[run.key], status="RUNNING")
            self.tags(run.key, process)
        else:
            self._create(run, experiment, process)
        if self._system_metrics and run.parent is None and run.key not in self._monitors:
            self._start_monitor(run.key)

    def _create(self, run: Run, experiment: str, process: dict[str, str]) -> None:
        parent = {"mlflow.parentRunId": self._runs[run.parent]} if run.parent else {}
        tags = {KEY_TAG: run.key, **process, **parent}
        created = self._client.create_run(experiment, start_time=run.begun, run_name=run.name, tags=tags)
        self._runs[run.key] = created.info.run_id

    def _start_monitor(self, run: str) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)  # else it logs each failure of the store
        monitor = SystemMetricsMonitor(self._runs[run], resume_logging=True, tracking_uri=self.uri)
        monitor.start()
        self._monitors[run] = monitor

    def where(self, run: Run) -> str:
        uri = self.uri
        command = (
            f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
            if uri.startswith("sqlite:")
            else without_credentials(uri)
        )
        return f"mlflow run {self._runs[run.key]} in experiment {run.experiment!r}; view it with: {command}"

    def params(self, run: str, values: dict[str, Any]) -> None:
        """Parameters are immutable in mlflow: a value that a resumed run changed becomes tag ``resumed.NAME``."""
        from mlflow.entities import Param

        logged = self._client.get_run(self._runs[run]).data.params
        texts = {_valid_name(name): str(value)[:MAX_PARAM_LENGTH] for name, value in values.items()}
        for batch in _batches([Param(*one) for one in texts.items() if one[0] not in logged], MAX_PARAMS):
            self._client.log_batch(self._runs[run], params=batch)
        self.tags(run, {f"resumed.{name}": text for name, text in texts.items() if logged.get(name, text) != text})

    def tags(self, run: str, values: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        for batch in _batches(
            [RunTag(_valid_name(name), text[:MAX_TAG_LENGTH]) for name, text in values.items()], MAX_PARAMS
        ):
            self._client.log_batch(self._runs[run], tags=batch)

    def metrics(self, run: str, rows: list[Row], at: int) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(self._metric_key(name), value, at, row["step"])
            for row in rows
            for name, value in row["values"].items()
        ]
        for batch in _batches(points, MAX_METRICS):
            self._client.log_batch(self._runs[run], metrics=batch)

    def _metric_key(self, name: str) -> str:
        """A valid key, with a number if another name has the same key, as with the classes "a*b" and "a+b"."""
        if name not in self._metric_keys:
            key, number, taken = _valid_name(name), 1, set(self._metric_keys.values())
            while (candidate := key if number == 1 else f"{key[:245]}_{number}") in taken:
                number += 1
            self._metric_keys[name] = candidate
        return self._metric_keys[name]

    def artifact(self, run: str, path: str, folder: str) -> None:
        if Path(path).is_dir():
            self._client.log_artifacts(self._runs[run], path, folder)
        else:
            self._client.log_artifact(self._runs[run], path, folder)

    def image(self, run: str, path: str, name: str, step: int, at: int) -> None:
        """Log an image for mlflow's slider over steps, which shows several runs side by side."""
        from PIL import Image

        with Image.open(path) as picture:
            self._client.log_image(self._runs[run], picture, key=name, step=step, timestamp=at, synchronous=True)

    def rename(self, run: str, name: str) -> None:
        self._client.update_run(self._runs[run], name=name)

    def model(self, run: str, path: str, name: str) -> None:
        """Log an mlflow model, which can be registered by name."""
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
        # they log 50 lines for a new database, a traceback for a locked one, one line per attempt to reach a server
        for noisy in ("mlflow.store.db.utils", "alembic", "urllib3.connectionpool"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        try:
            with self._creation_lock():
                return MlflowClient(tracking_uri=self.uri)
        except MlflowException as error:  # a wrong address, not a rejected call, so calls are kept
            raise Unavailable(str(error)) from error

    @contextmanager
    def _creation_lock(self) -> Iterator[None]:
        """Let only one of several concurrent first runs create the SQLite tables; mlflow has no lock for that."""
        with ExitStack() as stack:
            if self.uri.startswith(SQLITE):
                database = Path(self.uri.removeprefix(SQLITE).partition("?")[0])
                database.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(database.with_name(f"{database.name}.lock"), "", wait=True))
                if not database.exists():
                    _create_database(database)
            yield

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        existing = self._client.get_experiment_by_name(name)
        try:
            return existing.experiment_id if existing else self._new_experiment(name)
        except MlflowException:
            if existing := self._client.get_experiment_by_name(name):  # another run was faster
                return existing.experiment_id
            raise

    def _new_experiment(self, name: str) -> str:
        database = self.uri.removeprefix(SQLITE)
        local = database != self.uri  # a server chooses the location of artifacts itself
        artifacts = (Path(database).absolute().parent / "mlartifacts").as_uri() if local else None
        kind = {"mlflow.experimentKind": "custom_model_development"}  # else mlflow's page opens with language models
        return self._client.create_experiment(name, artifact_location=artifacts, tags=kind)

    def _search(self, experiment: str, query: str) -> list[Stored]:
        return list(self._client.search_runs([experiment], query, max_results=500))

    def _end_killed_runs(self, experiment: str) -> None:
        """Set KILLED on this machine's runs whose process is gone, for example after SIGKILL or a power cut."""
        for run in self._search(experiment, "attributes.status = 'RUNNING'"):
            host, _, process = run.data.tags.get(PROCESS_TAG, "").partition(" ")
            pid = process.partition("-")[0]
            if host == socket.gethostname() and pid.isdecimal() and process != _process_id(int(pid)):
                self._client.set_terminated(run.info.run_id, "KILLED")


def _create_database(file: Path) -> None:
    """Create mlflow's tables in a new SQLite file, completely or not at all.

    The 400 statements wait for the disk once; waiting for each takes seconds, or minutes on a hard disk.
    """
    from mlflow.store.db import utils
    from sqlalchemy import create_engine, event

    if not hasattr(utils, "_initialize_tables"):
        return  # another release of mlflow, which creates the tables when it connects
    with replacing(file) as new:
        engine = create_engine(f"{SQLITE}{new.as_posix()}")
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        try:
            utils._initialize_tables(engine)
        finally:
            engine.dispose()


def _process_id(pid: int) -> str:
    """Process id and start time, because the system reuses ids; independent of clocks that may be changed."""
    import psutil

    with suppress(OSError):  # Linux: start in ticks since boot; the process name may contain spaces
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


def _batches(values: list[T], size: int) -> list[list[T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _valid_name(name: str) -> str:
    """A valid mlflow name: at most 250 letters, digits, ``_-./`` and spaces; no part of the path is only dots.

    mlflow rejects a whole batch of values because of one invalid name, such as that of a class called "../up".
    """
    parts = re.sub(r"[^\w\-./ ]", "_", name)[:250].split("/")
    return "/".join(part if part.strip(".") else "_" * max(1, len(part)) for part in parts)
