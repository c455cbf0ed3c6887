"""Each store by itself: what it was told can be read back with its own means."""

import builtins
import os
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_pipeline.hooks.tracking import mlflow_store
from seg_pipeline.hooks.tracking.mlflow_store import MlflowTracker
from seg_pipeline.hooks.tracking.outbox import Outbox
from seg_pipeline.hooks.tracking.recorder import Curve, RunRecorder
from seg_pipeline.hooks.tracking.tracker import Run
from seg_pipeline.hooks.tracking.tracking_hooks import make_tracker

RUN = Run("0123456789abcdef", "training", "tests", begun=1_700_000_000_000)
ROWS = [{"step": step, "values": {"train_loss": 1 / step, "val_dice": step / 8}} for step in (1, 2)]

MLFLOW = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture
def picture(tmp_path) -> Path:
    pixels = np.zeros((5, 7, 3), dtype=np.uint8)
    pixels[2, 3] = (0, 0, 255)  # OpenCV's red
    cv2.imwrite(str(tmp_path / "curves.png"), pixels)
    return tmp_path / "curves.png"


def record(name: str, project: Path, picture: Path) -> RunRecorder:
    """A run with everything that there is, of two halves: the second goes on with the first."""
    page = project / "report.html"
    page.write_text("<p>")
    model = project / "model"
    model.mkdir()
    (model / "MLmodel").write_text("flavors: {}")
    for status in ("KILLED", "FINISHED"):
        recorder = RunRecorder(RUN, [Outbox(make_tracker(name, project), project)], {})
        recorder.log("params", values={"training.epochs": 2})
        recorder.log("tags", values={"git.commit": "abc"})
        recorder.curves([Curve(ROWS[:1] if status == "KILLED" else ROWS[1:])])
        if status == "FINISHED":
            recorder.curves([Curve(ROWS, "fold 1", {"fold": 0}, {"state": "complete"}, "FINISHED")])
        recorder.scores({"test/mean_dice": 0.5})
        recorder.log("figure", path=str(picture))
        recorder.image(str(picture), "sheet", 3)
        recorder.rename(f"{RUN.name} resnet18")
        recorder.log("artifact", path=str(page), folder="pages")
        recorder.log("model", path=str(model), name="model")
        assert recorder.finish(status) == []
    return recorder


def test_mlflow_lies_in_the_project_unless_a_server_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert MlflowTracker(tmp_path).uri == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert MlflowTracker(tmp_path).uri == "http://127.0.0.1:5000"


def test_tensorboard_shows_curves_pictures_and_texts(tmp_path, picture):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recorder = record("tensorboard", tmp_path, picture)
    folder = tmp_path / "tensorboard" / "tests" / "training-01234567"
    root = tmp_path / "tensorboard"
    assert recorder.where() == f"tensorboard {folder}; view it with: tensorboard --logdir {root}"
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("train_loss")] == [(1, 1.0), (2, 0.5)]
    assert [one.value for one in events.Scalars("test/mean_dice")] == [0.5, 0.5]
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert "| training.epochs | 2 |" in texts["parameters/training.epochs/text_summary"]
    assert "| git.commit | abc |" in texts["about/git.commit/text_summary"]
    encoded = events.Images("figures/curves")[0].encoded_image_string
    shown = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(shown, cv2.imread(str(picture)))
    assert [one.step for one in events.Images("images/sheet")] == [3, 3]
    nested = EventAccumulator(str(folder / "fold 1"))
    nested.Reload()
    assert [one.step for one in nested.Scalars("val_dice")] == [1, 2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # wandb 0.31 on pydantic 2.14
def test_wandb_offline_keeps_a_folder_that_can_be_sent(tmp_path, picture, monkeypatch, capfd):
    for name, value in {
        "MODE": "offline",
        "DIR": "",
        "CACHE_DIR": "cache",
        "DATA_DIR": "data",
        "CONFIG_DIR": "c",
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / value) if name.endswith("_DIR") else value)
    recorder = record("wandb", tmp_path, picture)
    folders = sorted(path.name.split("-", 3)[-1] for path in (tmp_path / "wandb").glob("offline-run-*"))
    assert folders == [RUN.key, RUN.key, f"{RUN.key}-fold-1"]
    assert "upload with: wandb sync" in recorder.where()
    last = sorted((tmp_path / "wandb").glob(f"offline-run-*-{RUN.key}"))[-1]
    file, until = last / f"run-{RUN.key}.wandb", time.monotonic() + 60
    while b"FINISHED" not in (told := file.read_bytes()) and time.monotonic() < until:
        time.sleep(0.05)  # its own process writes
    for word in (
        b"train_loss",
        b"test/mean_dice",
        b"training.epochs",
        b"git.commit",
        b"FINISHED",
        b"training resnet18",
    ):
        assert word in told
    assert list((last / "files" / "media" / "images" / "figures").glob("curves_*.png"))
    assert list((last / "files" / "media" / "images" / "images").glob("sheet_*.png"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")])
def test_an_extra_that_is_not_installed_is_named(tmp_path, monkeypatch, caplog, name, module):
    def without(wanted, *rest, real=builtins.__import__):
        if wanted.partition(".")[0] == "wandb" or wanted == module:
            raise ImportError(f"No module named {wanted!r}")
        return real(wanted, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    recorder = RunRecorder(RUN, [Outbox(make_tracker(name, tmp_path), tmp_path)], {})
    assert f"it is not installed; run pip install 'seg_pipeline[{name}]'" in caplog.text
    assert len(recorder.finish("FINISHED")) == 1


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("test/classes/../up/dice", "test/classes/__/up/dice"),
        ("test/größe/dice", "test/größe/dice"),
        ("a//b/./", "a/_/b/_/_"),
        ("x*y (1)", "x_y _1_"),
        ("v1.2/...", "v1.2/___"),
    ],
)
def test_a_name_that_mlflow_would_refuse_is_made_safe(name, key):
    from mlflow.utils.validation import _validate_metric_name

    assert mlflow_store._valid_name(name) == key
    _validate_metric_name(key)


THREE = """
import os, sys
from dataclasses import asdict
from pathlib import Path
from seg_pipeline.hooks.tracking.mlflow_store import MlflowTracker
from seg_pipeline.hooks.tracking.outbox import Outbox
from seg_pipeline.hooks.tracking.tracker import Run
import mlflow.store.tracking.sqlalchemy_store

project, (start, started) = Path(sys.argv[1]), os.pipe()
for number in range(3):
    if os.fork() == 0:
        os.close(started)
        box = Outbox(MlflowTracker(project), project)
        os.read(start, 1)  # until the last has begun, too
        box.send("start", run=asdict(Run(f"run{number}", "training", "tests", 5)))
        box.send("finish", run=f"run{number}", status="FINISHED")
        os._exit(box.close() is not None)
os.close(started)
print(*(os.wait()[1] for _ in range(3)))
"""


@MLFLOW
def test_a_database_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    from mlflow.store.db import utils

    def fail(_):
        raise OSError("the machine is switched off")

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(utils, "_upgrade_db", fail)
        with pytest.raises(OSError, match="switched off"):
            MlflowTracker(tmp_path).start(RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db.lock"]
    MlflowTracker(tmp_path).start(RUN)
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}
    with MlflowTracker(tmp_path)._client._tracking_client.store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # waits for the disk, as ever


@pytest.mark.fault(
    scenario="three first tracked runs at once", command="kedro run", outcome="one database with three runs"
)
@pytest.mark.slow
def test_three_first_runs_at_once_make_one_database(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    command = [sys.executable, "-c", THREE, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["0", "0", "0"], ended.stderr
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("SELECT name FROM experiments ORDER BY 1").fetchall() == [("Default",), ("tests",)]
        assert database.execute("SELECT DISTINCT status, count(*) FROM runs").fetchall() == [("FINISHED", 3)]
    assert not (tmp_path / "tracking_aside").exists()


@pytest.mark.fault(
    scenario="the clock is set while a run is tracked",
    command="kedro run",
    outcome="a living run is not marked as killed",
    review="serving 12",
)
def test_a_clock_that_is_set_does_not_make_a_living_process_another(monkeypatch):
    import psutil

    before = mlflow_store._process_id(os.getpid())
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + 3600)
    assert mlflow_store._process_id(os.getpid()) == before
    assert mlflow_store._process_id(os.getppid()) != before


@pytest.mark.slow
@MLFLOW
def test_a_run_that_the_database_does_not_know_is_lost(tmp_path, store_uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    tracker = MlflowTracker(tmp_path)
    tracker._runs["abc"] = "0" * 32
    with pytest.raises(tracker.failures()) as error:
        tracker.tags("abc", {"a": "b"})
    assert tracker.lost(error.value)


@MLFLOW
def test_tags_of_another_program_do_not_end_a_run(tmp_path, store_uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    tracker = MlflowTracker(tmp_path)
    tracker.start(Run("theirs", "training", "foreign", begun=5))
    tracker.tags("theirs", {mlflow_store.PROCESS_TAG: f"{socket.gethostname()} no number"})
    tracker.start(Run("ours", "training", "foreign", begun=5))
    assert tracker._client.get_run(tracker._runs["theirs"]).info.status == "RUNNING"


def test_two_names_that_are_made_safe_alike_stay_two_metrics(tmp_path):
    tracker = MlflowTracker(tmp_path)
    names = ["test/dice/a*b", "test/dice/a+b", "test/dice/a_b", "test/dice/a*b"]
    assert [tracker._metric_key(name) for name in names] == [
        "test/dice/a_b", "test/dice/a_b_2", "test/dice/a_b_3", "test/dice/a_b",
    ]  # fmt: skip
