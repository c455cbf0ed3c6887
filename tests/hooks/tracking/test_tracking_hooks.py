import atexit
import json
import logging
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from pydantic import BaseModel, Field

from seg_pipeline.hooks.tracking import TrackingHooks, mlflow_models
from seg_pipeline.hooks.tracking.resume import is_complete
from seg_pipeline.hooks.tracking.tracking_hooks import run_values
from seg_pipeline.segmentation.manifest.table import data_hash
from seg_pipeline.segmentation.settings.training import ScoreSettings

LOG = "seg_pipeline.hooks.tracking.tracking_hooks"

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

    def __init__(
        self,
        project: Path,
        uri: str,
        catalog: DataCatalog | None = None,
        pipeline: Pipeline = PIPELINE,
        **run_params: Any,
    ) -> None:
        self.hooks = TrackingHooks()
        self.uri = uri
        about = {"project_path": str(project), "pipeline_names": ["training"], "env": None, "run_id": "now"}
        self.hooks.before_pipeline_run(about | run_params, pipeline, catalog or catalog_of({"experiment": "tests"}))
        recorder = self.hooks._recorder
        self.key = recorder.run.key if recorder else ""
        self.run_id = recorder._outboxes[0].tracker._runs.get(self.key, "") if recorder else ""

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

    def nested(self) -> dict[str, Any]:
        """Nested runs by name."""
        experiment = self.client.get_run(self.run_id).info.experiment_id
        found = self.client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{self.run_id}'")
        return {one.info.run_name: one for one in found}

    def artifacts(self, folder: str) -> list[str]:
        return [one.path for one in self.client.list_artifacts(self.run_id, folder)]


@pytest.fixture
def running(tmp_path, store_uri, monkeypatch):
    """``running(catalog, **run_params)`` starts a run in the session's store."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    begun = []

    def start(catalog: DataCatalog | None = None, **given: Any) -> Running:
        begun.append(Running(tmp_path, store_uri, catalog, **given))
        return begun[-1]

    yield start
    for one in begun:
        one.hooks.after_pipeline_run()


@pytest.mark.slow
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
    assert (
        run.data.tags.items()
        >= {
            "kedro.command": "kedro run --pipelines training,evaluation --env camvid",
            "kedro.env": "camvid",
            "kedro.pipelines": "training, evaluation",
            "kedro.run_id": "now",
            "python": platform.python_version(),
            "package.numpy": metadata.version("numpy"),
        }.items()
    )
    assert re.fullmatch(r"camvid training\+evaluation 20\d\d-\d\d-\d\d \d\d:\d\d", run.data.tags["mlflow.runName"])
    assert sum(name.startswith("package.") for name in run.data.tags) == 5
    packages = Path(run.client.download_artifacts(run.run_id, "results/packages.txt")).read_text()
    assert f"kedro=={metadata.version('kedro')}\n" in packages
    assert "git.commit" not in run.data.tags  # the folder of this test is no checkout
    shown = f"mlflow run {run.run_id} in experiment 'tests'; view it with: mlflow ui --backend-store-uri {run.uri}"
    assert run.hooks.where == shown
    assert caplog.messages == [shown]
    assert run.artifacts("results") == ["results/packages.txt", "results/parameters.json"]
    run.hooks.after_pipeline_run()
    assert run.status == "FINISHED"


def test_a_failed_run_is_marked(running):
    run = running()
    run.hooks.on_pipeline_error(ValueError("broken"))
    assert run.status == "FAILED"
    run.hooks.after_dataset_saved("test_scores", {"mean_dice": 1.0})
    assert run.data.metrics == {}


def test_an_interrupted_run_is_killed(running, monkeypatch):
    registered = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    run = running()
    ((finish, status),) = (call for call in registered if "KILLED" in call)  # mlflow registers too, on first use
    finish(status)
    assert run.status == "KILLED"


def test_each_epoch_is_logged_once(running):
    run = running()
    run.hooks.after_dataset_saved("training_history", HISTORY.iloc[:1])
    assert run.curve("train/loss") == [(0, 1.0)]
    for rows in (2, 2, 3):
        run.hooks.after_dataset_saved("training_history", HISTORY.iloc[:rows])
    assert run.curve("train/loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert sorted(run.data.metrics) == ["train/loss", "val/dice"]
    assert run.curve("val/dice") == [(1, 0.5), (2, 0.75)]  # an epoch that was not validated has none


def test_a_resumed_run_has_the_whole_curve(running):
    resumed = running()
    resumed.hooks.after_dataset_saved("training_history", HISTORY)
    assert resumed.curve("train/loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]


def test_steps_are_epochs(running):
    run = running()
    run.hooks.after_dataset_saved("training_history", HISTORY.assign(epoch=[5, 6, 7]))
    assert [step for step, _ in run.curve("train/loss")] == [5, 6, 7]


def test_the_main_scores_are_metrics_and_what_describes_them_are_tags(running):
    run = running()
    scores = {
        "mean_dice": 0.5,
        "mean_dice_interval": [0.25, 0.75],
        "num_images": 3,
        "aggregation": "image",
        "confidence": 0.95,
        "boundary_width": 0.02,
        "calibration": {"ece": 0.125},
        "classes": {"large bowel #2": {"dice": 0.25, "iou": None, "num_images": 2}},
        "by_aggregation": {"image": {"mean_dice": 0.5}},
    }
    run.hooks.after_dataset_saved("test_scores", scores)
    assert run.data.metrics == {
        "test/mean_dice": 0.5,
        "test/calibration_error": 0.125,
        "test/dice/large bowel _2": 0.25,
    }
    assert (run.data.tags["test.aggregation"], run.data.tags["test.num_images"]) == ("image", "3")


def test_figures_are_artifacts(running, tmp_path, store_uri):
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
    logged = Path(store_uri.removeprefix("sqlite:///")).parent / "mlartifacts" / run.run_id / "artifacts" / "figures"
    assert (logged / "balance.png").read_bytes() == file.read_bytes()  # the very file, not drawn again
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.slow
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


def test_commit_and_changes_are_tags(running, tmp_path):
    def git(*command: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        whole = ["git", "-C", str(tmp_path), *identity, *command]
        return subprocess.run(whole, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("first")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    clean = running().data.tags
    assert clean["mlflow.source.git.commit"] == clean["git.commit"] == git("rev-parse", "HEAD")
    assert clean["git.dirty"] == "false"
    (tmp_path / "file").write_text("second")
    assert running().data.tags["git.dirty"] == "true"


def test_data_and_splits_are_known_by_their_hash(running, manifest):
    run = running()
    run.hooks.after_dataset_loaded("train_val_images", manifest)
    first = run.data.tags
    assert first["train_val_images.hash"] == data_hash(manifest)
    assert (first["train_val_images.num_train"], first["train_val_images.num_val"]) == ("10", "3")
    run.hooks.after_dataset_loaded("train_val_images", manifest.iloc[:3])  # once a run: all nodes get the same
    assert run.data.tags["train_val_images.hash"] == first["train_val_images.hash"]
    other = running()
    moved = manifest.assign(split=manifest["split"].replace({"val": "test"}))
    other.hooks.after_dataset_saved("train_val_images", moved)
    assert other.data.tags["train_val_images.split_hash"] != first["train_val_images.split_hash"]


def test_device_and_threads_are_tags(running):
    import torch

    run = running()
    run.hooks.after_dataset_saved("training_history", HISTORY)
    assert run.data.tags["threads"] == str(torch.get_num_threads())
    assert run.data.tags["device"] == ("cuda" if torch.cuda.is_available() else "cpu")


def test_pages_and_results_are_artifacts(running, tmp_path):
    entries = {
        "report": {"type": "text.TextDataset", "filepath": str(tmp_path / "report.html")},
        "model_card": {"type": "text.TextDataset", "filepath": str(tmp_path / "model_card.md")},
        "config": {"type": "json.JSONDataset", "filepath": str(tmp_path / "training_config.json")},
        "splits": {"type": "pandas.ParquetDataset", "filepath": str(tmp_path / "splits.parquet")},
    }
    catalog = catalog_of({"experiment": "tests"})
    for name, dataset in DataCatalog.from_config(entries).items():
        catalog[name] = dataset
    run = running(catalog)
    made = {"report": "<p>", "model_card": "# Model", "config": {"seed": 1}, "splits": HISTORY}
    for name, data in made.items():
        catalog.save(name, data)
        run.hooks.after_dataset_saved(name, data)
    assert run.artifacts("pages") == ["pages/model_card.md", "pages/report.html"]
    assert run.artifacts("results") == [
        "results/packages.txt",
        "results/parameters.json",
        "results/training_config.json",
    ]


def test_a_fold_is_a_nested_run(running):
    run = running()
    first = HISTORY.assign(fold=0)
    run.hooks.after_dataset_saved("training_history", first.iloc[:2])
    assert {name: one.info.status for name, one in run.nested().items()} == {"fold 1": "RUNNING"}
    both = pd.concat([first, HISTORY.iloc[:1].assign(fold=1, train_loss=0.125)])
    run.hooks.after_dataset_saved("training_history", both)
    nested = run.nested()
    assert {name: one.info.status for name, one in nested.items()} == {"fold 1": "FINISHED", "fold 2": "RUNNING"}
    assert nested["fold 1"].data.metrics == {"train/loss": 0.25, "val/dice": 0.75}
    assert nested["fold 2"].data.metrics == {"train/loss": 0.125}
    assert nested["fold 2"].data.params == {"fold": "1"}
    run.hooks.on_pipeline_error(ValueError("broken"))
    assert run.nested()["fold 2"].info.status == "FAILED"
    assert run.data.metrics == {}


def test_a_trial_is_a_nested_run_during_the_search(running):
    run = running()
    trials = pd.DataFrame(
        {
            "trial": [1, 1, 2],
            "step": ["learning_rate", "learning_rate", "tpe"],
            "repeat": 0,
            "seed": 17,
            "optimizer.learning_rate": [0.01, 0.01, 0.1],
            "sampling.mix": ["none", "none", "cutmix"],
            "epoch": [1, 2, 1],
            "val_dice": [0.25, 0.5, None],
            "state": ["complete", "complete", None],
        }
    )
    run.hooks.after_dataset_saved("search_trials", trials)
    ended = trials.assign(state=["complete", "complete", "diverged"])
    for _ in range(2):
        run.hooks.after_dataset_saved("search_trials", ended)
    nested = run.nested()
    assert {name: one.info.status for name, one in nested.items()} == {
        "trial 1, learning_rate": "FINISHED",
        "trial 2, tpe": "FAILED",
    }
    first, second = nested["trial 1, learning_rate"], nested["trial 2, tpe"]
    points = run.client.get_metric_history(first.info.run_id, "val/dice")
    assert [(point.step, point.value) for point in points] == [(1, 0.25), (2, 0.5)]
    assert second.data.params == {
        "step": "tpe",
        "repeat": "0",
        "seed": "17",
        "training.optimizer.learning_rate": "0.1",
        "training.sampling.mix": "cutmix",
    }
    assert second.data.metrics == {}
    assert (first.data.tags["state"], second.data.tags["state"]) == ("complete", "diverged")


def test_more_parameters_and_longer_ones_than_mlflow_takes_at_once(running):
    catalog = catalog_of({"experiment": "tests"})
    catalog["params:seed"] = {f"key_{number}": number for number in range(250)} | {"long": "x" * 7000}
    run = running(catalog)
    assert len(run.data.params) == 255
    assert len(run.data.params["seed.long"]) == 6000
    whole = run.client.download_artifacts(run.run_id, "results/parameters.json")
    assert json.loads(Path(whole).read_text())["seed.long"] == "x" * 7000


CONFIG = {
    "model": {"encoder": "resnet18"},
    "sampling": {"batch_size": "auto"},
    "optimizer": {"learning_rate": 0.006, "momentum": 0.9},
    "from_search": {"values": {"optimizer.learning_rate": 0.006}, "reason": "the best"},
}
GIVEN = {
    "model": {"encoder": "resnet34"},
    "sampling": {"batch_size": "auto"},
    "optimizer": {"learning_rate": 0.002, "momentum": 0.9},
}
TRAINS = Pipeline([Node(lambda *given: given, ["params:training", "params:seed"], "training_config", name="choose")])


def test_the_settings_that_the_training_used_are_recorded_with_their_source(running):
    """The YAML's learning rate is 0.002; a search replaced it by 0.006."""
    catalog = catalog_of({"experiment": "tests"})
    catalog["params:training"] = GIVEN
    typed = {"training": {"optimizer": {"momentum": 0.9}}}
    run = running(catalog, pipeline=TRAINS, runtime_params=typed)
    assert run.data.params == {"seed": "7"}  # the others may change, and mlflow keeps the first value
    run.hooks.after_dataset_saved("training_config", CONFIG)
    assert run.data.params == {
        "seed": "7",
        "training.model.encoder": "resnet18",
        "training.optimizer.learning_rate": "0.006",
        "training.optimizer.momentum": "0.9",
    }
    chosen = CONFIG | {"sampling": {"batch_size": 12}, "files": {"start.checkpoint": "5e1f"}}
    for later in (chosen, chosen | {"sampling": {"batch_size": 13}}):  # another fold's
        run.hooks.after_dataset_saved("last_checkpoint", last_of(finished=False, config=later))
    assert run.data.params["training.sampling.batch_size"] == "12"
    assert run.data.params["training.files.start.checkpoint"] == "5e1f"
    assert {name: text for name, text in run.data.tags.items() if name.startswith("source.")} == {
        "source.training.optimizer.learning_rate": "search (parameters: 0.002)",
        "source.training.optimizer.momentum": "command line",
        "source.training.sampling.batch_size": "chosen by the training (parameters: auto)",
    }
    assert run.data.tags["mlflow.runName"].startswith("base training resnet18 20")
    whole = json.loads(Path(run.client.download_artifacts(run.run_id, "results/parameters.json")).read_text())
    assert (whole["training.optimizer.learning_rate"], whole["training.sampling.batch_size"]) == (0.006, 12)
    assert not [name for name in run.data.tags if name.startswith("resumed.")]


def test_a_training_that_stops_before_its_config_has_the_given_settings(running):
    catalog = catalog_of({"experiment": "tests"})
    catalog["params:training"] = GIVEN
    run = running(catalog, pipeline=TRAINS)
    run.hooks.on_pipeline_error(ValueError("broken"))
    assert run.data.params["training.optimizer.learning_rate"] == "0.002"
    assert run.data.params["training.sampling.batch_size"] == "auto"


def test_an_evaluation_records_the_settings_of_its_checkpoint(running):
    scores = Pipeline([Node(lambda *given: given, ["checkpoint", "params:seed"], "test_scores", name="score")])
    run = running(pipeline=scores, pipeline_names=["evaluation"], env="smoke")
    run.hooks.after_dataset_loaded("checkpoint", {"models": [{"config": CONFIG}]})
    assert run.data.params["training.optimizer.learning_rate"] == "0.006"
    assert run.data.tags["source.training"] == "checkpoint"
    assert run.data.tags["mlflow.runName"].startswith("smoke evaluation resnet18 20")


def test_the_validation_sheet_can_be_compared_over_epochs(running, tmp_path):
    from matplotlib.figure import Figure

    entry = {"type": "matplotlib.MatplotlibDataset", "filepath": str(tmp_path / "sheet.png")}
    catalog = catalog_of({"experiment": "tests"})
    catalog["validation_sheet"] = DataCatalog.from_config({"sheet": entry})["sheet"]
    run = running(catalog)
    for epochs, figure in ((1, Figure()), (3, Figure())):
        catalog.save("validation_sheet", figure)
        run.hooks.after_dataset_saved("training_history", HISTORY.iloc[:epochs])
        run.hooks.after_dataset_saved("validation_sheet", figure)
        run.hooks.after_dataset_saved("validation_sheet", figure)  # the same one, at the end of another epoch
    pictures = [name for name in run.artifacts("images") if name.endswith(".png")]
    assert [name.split("+timestamp")[0] for name in pictures] == [f"images/validation_sheet+step+{n}" for n in (0, 2)]
    assert run.data.tags["mlflow.loggedImages"] == "True"


def test_system_metrics_are_logged_on_request(running, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    run = running(catalog_of({"experiment": "tests", "system_metrics": True}))
    (monitor,) = run.hooks._recorder._outboxes[0].tracker._monitors.values()
    until = time.monotonic() + 60
    while monitor._logging_step < 2 and time.monotonic() < until:
        time.sleep(0.05)
    run.hooks.after_pipeline_run()
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100
    assert run.status == "FINISHED"


def training_catalog(folder: Path, **training: Any) -> DataCatalog:
    """As the training pipeline has it: a checkpoint is there, and a place to resume from."""
    kind = "seg_pipeline.datasets.checkpoint.CheckpointDataset"
    last = {"type": kind, "filepath": str(folder / "last.pt")}
    catalog = catalog_of({"experiment": "tests", "log_model": False})
    for name, dataset in DataCatalog.from_config(
        {"last_checkpoint": last, "resume_from": {**last, "missing_ok": True}}
    ).items():
        catalog[name] = dataset
    catalog["params:training"] = {"resume": True, "compute": {"num_workers": 0}, "epochs": 3} | training
    (folder / "last.pt").touch()
    return catalog


def last_of(*, finished: bool, config: dict | None = None) -> dict[str, Any]:
    """What matters here of a checkpoint to resume from."""
    return {"current": {"finished": finished, "config": config or {}}, "models": [], "folds": None}


TRAIN = Node(lambda *given: given, ["resume_from", "params:training", "params:seed"], "last_checkpoint", name="train")
RESUMABLE = Pipeline([TRAIN])


def test_a_resumed_training_continues_its_run(running, tmp_path):
    first = running(training_catalog(tmp_path), pipeline=RESUMABLE)
    first.hooks.after_dataset_saved("last_checkpoint", last_of(finished=False))
    first.hooks.after_dataset_saved("training_history", HISTORY.iloc[:2])
    first.hooks._finish("KILLED")
    catalog = training_catalog(tmp_path, compute={"device": "cpu", "num_workers": 4})
    second = running(catalog, pipeline=RESUMABLE)
    assert second.run_id == first.run_id
    assert second.status == "RUNNING"
    second.hooks.after_dataset_saved("last_checkpoint", last_of(finished=True))
    second.hooks.after_dataset_saved("training_history", HISTORY)
    second.hooks.after_pipeline_run()
    assert second.curve("train/loss") == [(0, 1.0), (1, 0.5), (2, 0.25)]  # no point twice
    assert second.data.params["training.compute.num_workers"] == "0"
    assert second.data.tags["resumed.training.compute.num_workers"] == "4"
    assert second.status == "FINISHED"
    third = running(training_catalog(tmp_path), pipeline=RESUMABLE)
    assert third.run_id != first.run_id  # that training had finished


@pytest.mark.parametrize(
    ("finished", "models", "folds", "whole"),
    [(True, 0, None, True), (False, 0, None, False), (True, 1, 3, False), (True, 2, 3, True), (False, 2, 3, False)],
)
def test_a_training_ends_with_its_last_fold(finished, models, folds, whole):
    assert is_complete({"current": {"finished": finished}, "models": [{}] * models, "folds": folds}) is whole


def test_the_best_model_is_kept_once_when_the_training_ends(running, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(mlflow_models, "save_checkpoint_model", lambda best, folder: made.append(best) or folder)
    catalog = training_catalog(tmp_path)
    catalog["params:tracking"] = {"experiment": "tests"}
    catalog["checkpoint"] = MemoryDataset({"models": ["best"]})
    run = running(catalog, pipeline=RESUMABLE)
    for finished in (False, True):
        run.hooks.after_dataset_saved("last_checkpoint", last_of(finished=finished))
        run.hooks.after_dataset_saved("training_history", HISTORY)
    assert made == [{"models": ["best"]}]
    assert run.data.tags["model.model"].startswith("models:/m-")


@pytest.mark.parametrize("change", [{"epochs": 4}, {"resume": False}, {"gone": True}, {"damaged": True}])
def test_another_training_is_another_run(running, tmp_path, change):
    first = running(training_catalog(tmp_path), pipeline=RESUMABLE)
    first.hooks.after_dataset_saved("training_history", HISTORY.iloc[:1])
    first.hooks._finish("KILLED")
    catalog = training_catalog(tmp_path, **{key: change[key] for key in change if key in ("epochs", "resume")})
    if "gone" in change:
        (tmp_path / "last.pt").unlink()
    if "damaged" in change:
        (tmp_path / "last.tracking.json").write_text("{")
    assert running(catalog, pipeline=RESUMABLE).run_id != first.run_id


@pytest.mark.fault(scenario="SIGTERM in a tracked run", command="kedro run", outcome="closed as KILLED")
@pytest.mark.slow
def test_sigterm_ends_the_run_as_killed(tmp_path, store_uri):
    """In a process of its own: it ends."""
    code = """
import os, signal, sys
from pathlib import Path
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from seg_pipeline.hooks.tracking import TrackingHooks, mlflow_models

hooks = TrackingHooks()
run = {"project_path": sys.argv[1], "pipeline_names": ["training"], "env": None, "run_id": "now"}
catalog = DataCatalog({}); catalog["params:tracking"] = {"experiment": "killed"}
hooks.before_pipeline_run(run, Pipeline([Node(lambda seed: seed, "params:seed", "out", name="n")]), catalog)
if os.fork() == 0:  # a worker that is told to end must not end the run
    os.kill(os.getpid(), signal.SIGTERM)
assert os.WTERMSIG(os.wait()[1]) == signal.SIGTERM
os.kill(os.getpid(), signal.SIGTERM)
"""
    environment = os.environ | {"MLFLOW_TRACKING_URI": store_uri}
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGTERM, ended.stderr
    from mlflow import MlflowClient

    client = MlflowClient(store_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("killed").experiment_id])
    assert run.info.status == "KILLED"


@pytest.mark.fault(scenario="SIGKILL in a tracked run", command="kedro run", outcome="the next run marks it as KILLED")
def test_a_run_whose_process_is_gone_is_marked_by_the_next(running):
    first = running()
    first.client.set_tag(first.run_id, "seg_pipeline.process", f"{socket.gethostname()} 999999-1")
    other = running()
    assert first.status == "KILLED"
    assert other.status == "RUNNING"


def test_values_of_parameters_have_the_names_of_yaml():
    catalog = catalog_of()
    catalog["params:scores"] = ScoreSettings(empty_policy="zero")
    values = run_values({"params:training", "params:seed", "params:scores", "manifest"}, catalog)
    assert values["training"]["optimizer"]["learning_rate"] == 0.01
    assert values["seed"] == 7
    assert values["scores"]["empty_policy"] == "zero"
    assert "manifest" not in values
    json.dumps(values)  # as they are kept when a store cannot be reached


def test_the_hooks_stay_light():
    """The settings import them at every `kedro` command."""
    heavy = {"torch", "mlflow", "matplotlib", "pandas", "wandb", "tensorboard", "psutil"}
    code = f"import sys, seg_pipeline.hooks; print(sorted({heavy} & set(sys.modules)))"
    environment = {key: value for key, value in os.environ.items() if key != "KEDRO_LOGGING_CONFIG"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ended.stdout.splitlines()[-1] == "[]"
