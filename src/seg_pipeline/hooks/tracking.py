"""Each run in mlflow: its parameters, scores by epoch, figures and outcome."""

from __future__ import annotations

import atexit
import logging
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from seg_pipeline.hooks.locate import file_of, flat, pipelines_of

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

log = logging.getLogger(__name__)


class TrackingHooks:
    """The store is ``MLFLOW_TRACKING_URI``, else mlflow.db in the project's folder, artifacts beside it.

    Off where parameter ``tracking.enabled`` is false. A store that fails is left alone, after one warning,
    for the rest of the run. Every call names its run: mlflow's "active run" is another one in each thread.
    """

    def __init__(self) -> None:
        self.where: str | None = None
        """For the summary: the run, and the command that shows it."""
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._catalog = DataCatalog()
        self._epochs_logged = 0
        self._figures: dict[str, Any] = {}

    @hook_impl(trylast=True)  # after all that may refuse to run
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        settings = _plain(_value_of("params:tracking", catalog) or {})
        if not settings.get("enabled", True):
            return
        self._catalog, self._epochs_logged, self._figures = catalog, 0, {}
        with self._unstopped():
            self._start(settings.get("experiment", "seg_pipeline"), run_params)
            self._log(params=run_values(pipeline.inputs(), catalog))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        if self._client is None:
            return
        with self._unstopped():
            if dataset_name == "training_history":
                self._log_history(data)
            elif dataset_name == "test_scores":
                scores = {f"test/{key}": value for key, value in flat(data, joint="/").items()}
                self._log(metrics=[(key, value, 0) for key, value in scores.items()], tags=scores)
            elif _is_figure(data) or self._is_picture(dataset_name):
                self._log_figure(dataset_name, data)

    @hook_impl
    def after_pipeline_run(self) -> None:
        self._finish("FINISHED")

    @hook_impl
    def on_pipeline_error(self) -> None:
        self._finish("FAILED")

    def _start(self, experiment: str, run_params: dict[str, Any]) -> None:
        project = Path(run_params["project_path"])
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(project / 'mlflow.db').as_posix()}"
        client = _client(uri)
        names = ", ".join(pipelines_of(run_params)) or "default"
        run = client.create_run(
            _experiment_id(client, experiment, uri),
            run_name=names,
            tags={
                "kedro.pipelines": names,
                "kedro.env": run_params.get("env") or "local",
                "kedro.run_id": str(run_params.get("run_id")),
                **({"mlflow.source.git.commit": commit} if (commit := _commit(project)) else {}),
            },
        )
        self._client, self._run_id = client, run.info.run_id
        atexit.register(self._finish, "KILLED")  # Ctrl-C calls no hook
        show = f"mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else _public(uri)
        self.where = f"run {self._run_id} in experiment {experiment!r}; to see it: {show}"
        log.info("mlflow %s", self.where)

    def _finish(self, status: str) -> None:
        atexit.unregister(self._finish)
        if self._client is not None:
            with self._unstopped():
                self._client.set_terminated(self._run_id, status)
        self._client = None

    def _log_history(self, history: pd.DataFrame) -> None:
        """Rows that this run has not logged yet: all of them at first, so that a resumed curve is whole."""
        rows = history.iloc[self._epochs_logged :].select_dtypes("number")
        self._log(
            metrics=[
                (_of_fold(str(key), row), value, int(row.get("epoch", step)))
                for step, row in enumerate(rows.to_dict("records"), start=self._epochs_logged)
                for key, value in row.items()
                if key not in ("epoch", "fold") and not math.isnan(value)
            ]
        )
        self._epochs_logged = len(history)

    def _log(
        self,
        *,
        metrics: Iterable[tuple[str, Any, int]] = (),
        params: dict[str, Any] | None = None,
        tags: dict[str, Any] | None = None,
    ) -> None:
        """Metrics are (name, value, step); of them only the numbers are logged, of tags only the texts."""
        from mlflow.entities import Metric, Param, RunTag

        assert self._client is not None
        now = int(time.time() * 1000)
        self._client.log_batch(
            self._run_id,
            metrics=[Metric(_key(key), value, now, step) for key, value, step in metrics if _is_number(value)],
            params=[Param(_key(key), str(value)) for key, value in (params or {}).items()],
            tags=[RunTag(_key(key), value) for key, value in (tags or {}).items() if isinstance(value, str)],
        )

    def _is_picture(self, name: str) -> bool:
        """Moving pictures are arrays, which says nothing: their file's ending does."""
        file = file_of(self._catalog.get(name))
        return file is not None and file.suffix in (".gif", ".mp4")

    def _log_figure(self, name: str, figure: Any) -> None:
        assert self._client is not None
        if self._figures.get(name) is figure:
            return  # a live figure that was not drawn anew
        self._figures[name] = figure
        file = file_of(self._catalog.get(name))
        if file is not None and file.is_file():
            self._client.log_artifact(self._run_id, str(file), "figures")
        elif not self._is_picture(name):
            self._client.log_figure(self._run_id, figure, f"figures/{name}.png")

    @contextmanager
    def _unstopped(self) -> Iterator[None]:
        try:
            yield
        except _store_errors() as error:
            self._client = None
            self.where = None
            log.warning(
                "Tracking is off for the rest of this run, as mlflow's store failed: %s. "
                "Set MLFLOW_TRACKING_URI to one that works, or the parameter tracking.enabled to false.",
                " ".join(_public(str(error)).split())[:300],
            )


def run_values(inputs: set[str], catalog: DataCatalog) -> dict[str, Any]:
    """The parameters among a pipeline's inputs, by dotted name."""
    names = sorted(name for name in inputs if name.startswith("params:"))
    return flat({name.removeprefix("params:"): _plain(_value_of(name, catalog)) for name in names})


def _value_of(name: str, catalog: DataCatalog) -> Any:
    dataset = catalog.get(name)  # not catalog.load, which logs a line
    return None if dataset is None else dataset.load()


def _plain(value: Any) -> Any:
    """A typed parameter as the dict it was in YAML."""
    return value.model_dump(mode="json", by_alias=True) if hasattr(value, "model_dump") else value


def _client(uri: str) -> MlflowClient:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # by default a dead server holds a run for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient
    from mlflow.store.db import utils

    utils.MAX_RETRY_COUNT = 3  # as above: 15 tries at doubling intervals would take an hour
    for noisy in ("mlflow.store.db.utils", "alembic"):  # 50 lines on a new database, a traceback on a locked one
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    return MlflowClient(tracking_uri=uri)


def _experiment_id(client: MlflowClient, name: str, uri: str) -> str:
    if found := client.get_experiment_by_name(name):
        return found.experiment_id
    path = uri.removeprefix("sqlite:///")
    beside = (Path(path).absolute().parent / "mlartifacts").as_uri() if path != uri else None  # a server decides
    kind = {"mlflow.experimentKind": "custom_model_development"}  # else the page opens on language models
    return client.create_experiment(name, artifact_location=beside, tags=kind)


def _store_errors() -> tuple[type[Exception], ...]:
    """What a store that is locked, full, unreachable, damaged or lacks its driver may raise."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, CommandError, OSError, ImportError


def _commit(project: Path) -> str:
    """Empty where the project is no git checkout."""
    try:
        command = ["git", "-C", str(project), "rev-parse", "--verify", "--quiet", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _of_fold(name: str, row: dict[Hashable, Any]) -> str:
    fold = int(row.get("fold", -1))
    return name if fold < 0 else f"fold_{fold}/{name}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_figure(data: object) -> bool:
    """Of Matplotlib or Plotly; without loading them, as they are there already where there is a figure."""
    modules = [sys.modules.get(name) for name in ("matplotlib.figure", "plotly.graph_objs")]
    return any(isinstance(data, module.Figure) for module in modules if module is not None)


def _public(text: str) -> str:
    """Without user and password of an address."""
    return re.sub(r"//[^/@\s]+@", "//", text)


def _key(name: str) -> str:
    """mlflow takes letters, digits and _ - . / and space in names."""
    return re.sub(r"[^\w\-./ ]", "_", name)
