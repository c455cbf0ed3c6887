from __future__ import annotations

import atexit
import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from pydantic import BaseModel, Field

from seg_pipeline.hooks.tracking import TrackingHooks, run_values

LOG = "seg_pipeline.hooks.tracking"

# mlflow 3.17 on SQLAlchemy 2.1
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


class Optimizer(BaseModel):
    learning_rate: float = 0.01
    class_: str | None = Field(default=None, alias="class")


class Training(BaseModel):
    epochs: int = 3
    size: tuple[int, int] = (32, 64)
    optimizer: Optimizer = Optimizer()


PIPELINE = Pipeline([Node(lambda *given: given, ["manifest", "params:training", "params:seed"], "out", name="train")])
HISTORY = pd.DataFrame(
    {"epoch": [0, 1, 2], "train_loss": [1.0, 0.5, 0.25], "val_dice": [None, 0.5, 0.75], "device": "cpu"}
)


def catalog_of(tracking: dict | None = None, **datasets: Any) -> DataCatalog:
    catalog = DataCatalog(datasets)
    catalog["params:training"] = Training()
    catalog["params:seed"] = 7
    if tracking is not None:
        catalog["params:tracking"] = tracking
    return catalog


class Running:
    """A run of the pipeline under the hooks, and a view into the store."""

    def __init__(self, project: Path, uri: str, catalog: DataCatalog | None = None, **run_params: Any) -> None:
        self.hooks = TrackingHooks()
        self.uri = uri
        about = {"project_path": str(project), "pipeline_names": ["training"], "env": None, "run_id": "now"}
        self.hooks.before_pipeline_run(about | run_params, PIPELINE, catalog or catalog_of({"experiment": "tests"}))
        self.run_id = self.hooks._run_id

    @property
    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    @property
    def data(self):
        return self.client.get_run(self.run_id).data

    @property
    def status(self) -> str:
        return self.client.get_run(self.run_id).info.status

    def curve(self, key: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.client.get_metric_history(self.run_id, key)]

    def artifacts(self, folder: str) -> list[str]:
        return [one.path for one in self.client.list_artifacts(self.run_id, folder)]


@pytest.fixture
def running(tmp_path, store, monkeypatch):
    """``running(catalog, **run_params)`` starts a run in the session's store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    begun = []

    def start(catalog: DataCatalog | None = None, **run_params: Any) -> Running:
        begun.append(Running(tmp_path, store, catalog, **run_params))
        return begun[-1]

    yield start
    for one in begun:
        one.hooks.after_pipeline_run()


def test_a_run_has_parameters_tags_and_status(running, caplog):
    caplog.set_level(logging.INFO, LOG)
    run = running(env="camvid", pipeline_names=["training", "evaluation"])
    assert run.status == "RUNNING"
    assert run.data.params == {
        "seed": "7",
        "training.epochs": "3",
        "training.size": "[32, 64]",
        "training.optimizer.learning_rate": "0.01",
        "training.optimizer.class": "None",
    }
    assert run.data.tags == {
        "kedro.env": "camvid",
        "kedro.pipelines": "training, evaluation",
        "kedro.run_id": "now",
        "mlflow.runName": "training, evaluation",
    }
    shown = f"run {run.run_id} in experiment 'tests'; to see it: mlflow ui --backend-store-uri {run.uri}"
    assert run.hooks.where == shown
    assert caplog.messages == [f"mlflow {shown}"]
    run.hooks.after_pipeline_run()
    assert run.status == "FINISHED"


def test_a_failed_run_is_marked(running):
    run = running()
    run.hooks.on_pipeline_error()
    assert run.status == "FAILED"
    run.hooks.after_dataset_saved("test_scores", {"mean_dice": 1.0})
    assert run.data.metrics == {}


def test_a_run_that_is_broken_off_is_marked(running, monkeypatch):
    registered = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    run = running()
    ((finish, status),) = registered
    finish(status)
    assert run.status == "KILLED"


def test_each_epoch_is_logged_once(running):
    run = running()
    run.hooks.after_dataset_saved("training_history", HISTORY.iloc[:1])
    assert run.curve("train_loss") == [(0, 1.0)]
    for rows in (2, 2, 3):
        run.hooks.after_dataset_saved("training_history", HISTORY.iloc[:rows])
    assert run.curve("train_loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert sorted(run.data.metrics) == ["train_loss", "val_dice"]
    assert run.curve("val_dice") == [(1, 0.5), (2, 0.75)]  # an epoch that was not validated has none


def test_a_resumed_run_has_the_whole_curve(running):
    resumed = running()
    resumed.hooks.after_dataset_saved("training_history", HISTORY)
    assert resumed.curve("train_loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]


def test_steps_are_epochs(running):
    run = running()
    run.hooks.after_dataset_saved("training_history", HISTORY.assign(epoch=[5, 6, 7]))
    assert [step for step, _ in run.curve("train_loss")] == [5, 6, 7]


def test_scores_are_flattened_and_their_terms_are_tags(running):
    run = running()
    scores = {
        "mean_dice": 0.5,
        "num_images": 3,
        "aggregation": "image",
        "exact": True,
        "classes": {"large bowel #2": {"dice": 0.25, "iou": None}},
    }
    run.hooks.after_dataset_saved("test_scores", scores)
    assert run.data.metrics == {
        "test/mean_dice": 0.5,
        "test/num_images": 3.0,
        "test/classes/large bowel _2/dice": 0.25,
    }
    assert run.data.tags["test/aggregation"] == "image"


def test_figures_are_artifacts(running, tmp_path, store):
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    file = tmp_path / "08_reporting" / "balance.png"
    entry = {"type": "matplotlib.MatplotlibDataset", "filepath": str(file)}
    catalog = catalog_of({"experiment": "tests"})
    catalog["class_balance"] = DataCatalog.from_config({"class_balance": entry})["class_balance"]
    catalog["in_memory"] = MemoryDataset()
    run = running(catalog)
    figure = Figure()
    figure.subplots().plot([1, 3, 2])
    catalog.save("class_balance", figure)
    run.hooks.after_dataset_saved("class_balance", figure)
    run.hooks.after_dataset_saved("in_memory", figure)
    assert run.artifacts("figures") == ["figures/balance.png", "figures/in_memory.png"]
    logged = Path(store.removeprefix("sqlite:///")).parent / "mlartifacts" / run.run_id / "artifacts" / "figures"
    assert (logged / "balance.png").read_bytes() == file.read_bytes()  # the very file, not drawn anew
    assert not (tmp_path / "mlruns").exists()


def test_plotly_figures_and_moving_pictures_are_artifacts(running, tmp_path):
    import numpy as np
    import plotly.graph_objects as go

    entries = {
        "chart": {"type": "plotly.JSONDataset", "filepath": str(tmp_path / "chart.json")},
        "moving": {
            "type": "seg_pipeline.datasets.animation.AnimationDataset",
            "filepath": str(tmp_path / "series.gif"),
        },
        "not_written": {
            "type": "seg_pipeline.datasets.animation.AnimationDataset",
            "filepath": str(tmp_path / "series.mp4"),
        },
    }
    catalog = catalog_of({"experiment": "tests"})
    for name, dataset in DataCatalog.from_config(entries).items():
        catalog[name] = dataset
    run = running(catalog)
    frames = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    for name, data in {"chart": go.Figure(), "moving": frames}.items():
        catalog.save(name, data)
        run.hooks.after_dataset_saved(name, data)
    run.hooks.after_dataset_saved("not_written", frames)
    assert run.artifacts("figures") == ["figures/chart.json", "figures/series.gif"]
    assert run.hooks.where is not None


def test_other_data_sets_are_left_alone(running):
    run = running()
    for data in (HISTORY, {"a": 1}, object(), None):
        run.hooks.after_dataset_saved("findings", data)
    assert run.data.metrics == {}


@pytest.mark.parametrize("given", [{"enabled": False}, {"enabled": False, "experiment": "x"}])
def test_tracking_may_be_switched_off(tmp_path, monkeypatch, given):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    run = Running(tmp_path, "", catalog_of(given))
    run.hooks.after_dataset_saved("training_history", HISTORY)
    run.hooks.after_pipeline_run()
    assert run.hooks.where is None
    assert list(tmp_path.iterdir()) == []


def test_the_commit_is_a_tag(running, tmp_path):
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *command], check=True)
    commit = subprocess.run(
        ["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert running().data.tags["mlflow.source.git.commit"] == commit


def test_the_store_is_in_the_project_by_default(tmp_path, store, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    asked = []

    def client(uri: str) -> None:
        asked.append(uri)
        raise OSError("not in this test")

    monkeypatch.setattr("seg_pipeline.hooks.tracking._client", client)
    Running(tmp_path, store)
    assert asked == [f"sqlite:///{tmp_path}/mlflow.db"]


def broken_address(folder: Path) -> str:
    (folder / "bad.db").write_text("no database at all, " * 10)
    return f"sqlite:///{folder}/bad.db"


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        (broken_address, "file is not a database"),
        (lambda _: "http://user:secret@127.0.0.1:9", "Max retries exceeded"),
        (lambda _: "nonsense://store", "unsupported URI 'nonsense://store'"),
        (lambda folder: f"sqlite:///{folder}/file/below.db", "[Errno 17] File exists"),
    ],
)
def test_a_store_that_does_not_work_never_stops_a_run(tmp_path, monkeypatch, caplog, uri, text):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri(tmp_path))
    caplog.set_level(logging.WARNING, LOG)
    run = Running(tmp_path, "")
    run.hooks.after_dataset_saved("training_history", HISTORY)
    run.hooks.after_pipeline_run()
    messages = [record.getMessage() for record in caplog.records if record.name == LOG]
    assert len(messages) == 1
    assert messages[0].startswith("Tracking is off for the rest of this run, as mlflow's store failed: ")
    assert text in messages[0]
    assert messages[0].endswith(
        "Set MLFLOW_TRACKING_URI to one that works, or the parameter tracking.enabled to false."
    )
    assert "secret" not in messages[0]
    assert run.hooks.where is None


def test_a_store_that_is_locked_half_way_never_stops_a_run(running, store, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, LOG)
    run = running()
    run.hooks.after_dataset_saved("training_history", HISTORY.iloc[:1])
    from mlflow.store.db import utils
    from sqlalchemy import sql

    # mlflow waits 20 s for a lock
    monkeypatch.setattr(utils.sql, "text", lambda text, real=sql.text: real(text.replace("= 20000", "= 50")))
    lock = sqlite3.connect(store.removeprefix("sqlite:///"), isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        for rows in (2, 3):
            run.hooks.after_dataset_saved("training_history", HISTORY.iloc[:rows])
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    run.hooks.after_dataset_saved("training_history", HISTORY)
    assert run.curve("train_loss") == [(0, 1.0)]
    messages = [record.getMessage() for record in caplog.records if record.name == LOG]
    assert len(messages) == 1
    assert "database is locked" in messages[0]


def test_values_of_parameters_have_dotted_names():
    values = run_values({"params:training", "params:seed", "manifest"}, catalog_of())
    assert values["training.optimizer.learning_rate"] == 0.01
    assert values["seed"] == 7
    assert "manifest" not in values


def test_the_hooks_stay_light():
    """The settings import them at every `kedro` command."""
    code = (
        "import sys, seg_pipeline.hooks; print(sorted({'torch', 'mlflow', 'matplotlib', 'pandas'} & set(sys.modules)))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "KEDRO_LOGGING_CONFIG"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ended.stdout.splitlines()[-1] == "[]"
