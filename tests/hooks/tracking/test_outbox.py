"""A store that is locked, unreachable or gone never stops a run, and what it missed reaches it later."""

import contextlib
import errno
import json
import logging
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from seg_pipeline.hooks.tracking import TrackingHooks, outbox
from seg_pipeline.hooks.tracking.outbox import Outbox

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

START = {"key": "abc", "name": "training", "experiment": "tests", "begun": 5, "parent": None}


class Store:
    """Takes calls down; ``down`` makes it fail, ``refused`` names calls that it never takes."""

    title = "mlflow"

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.down, self.refused, self.why = False, "", "refused: no such thing"

    def failures(self) -> tuple[type[Exception], ...]:
        return (OSError,)

    def refuses(self, error: Exception) -> bool:
        return "refused" in str(error) or self.lost(error)

    def lost(self, error: Exception) -> bool:
        return "no such run" in str(error)

    def where(self, run: Any) -> str:
        return f"run {run.key}"

    def __getattr__(self, do: str) -> Any:
        def call(**arguments: Any) -> None:
            if do == self.refused:
                raise OSError(self.why)
            if self.down:
                raise OSError("http://user:secret@host is down")
            self.calls.append((do, arguments))

        return call

    @property
    def done(self) -> list[str]:
        return [do for do, _ in self.calls]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def box(store, tmp_path, monkeypatch) -> Iterator[Outbox]:
    monkeypatch.setattr(outbox, "PAUSE", 0.0)
    box = Outbox(store, tmp_path)
    yield box
    box.close()


def kept(folder: Path) -> list[dict[str, Any]]:
    (file,) = (folder / "tracking_aside").glob("*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def warnings_in(caplog) -> list[str]:
    return [one.message for one in caplog.records if one.levelno >= logging.WARNING]


def test_missed_calls_are_sent_in_order_once_the_store_is_back(box, store, tmp_path, caplog):
    box.send("start", run=START)
    store.down = True
    box.send("metrics", run="abc", rows=[{"step": 1, "values": {"loss": 0.5}}], at=7)
    box.send("tags", run="abc", values={"a": "b"})
    assert [line["do"] for line in kept(tmp_path)] == ["start", "metrics", "tags"]  # whole without the store's memory
    assert box.where(outbox.Run(**START)) == f"mlflow: kept in {next((tmp_path / 'tracking_aside').glob('*.jsonl'))}"
    store.down = False
    box.send("finish", run="abc", status="FINISHED")
    assert store.done == ["start", "start", "metrics", "tags", "finish"]
    assert store.calls[2][1]["at"] == 7  # when it happened, not when it was sent
    assert list((tmp_path / "tracking_aside").iterdir()) == []
    warnings = [one for one in caplog.messages if "cannot reach mlflow" in one]
    assert len(warnings) == 1
    assert f"The run continues; calls that fail now are kept in {tmp_path / 'tracking_aside'}" in warnings[0]
    assert "secret" not in warnings[0]


def test_a_failed_store_is_not_asked_again_at_once(box, store, monkeypatch):
    monkeypatch.setattr(outbox, "PAUSE", 1000.0)
    store.down = True
    box.send("start", run=START)
    store.down = False
    box.send("tags", run="abc", values={})
    assert store.done == []
    assert box.flush() is None  # the end of a run waits for nothing
    assert store.done == ["start", "tags"]


def test_kept_files_are_copies(box, store, tmp_path):
    file, folder = tmp_path / "curves.png", tmp_path / "bundle"
    file.write_text("first")
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "model.onnx").write_text("weights")
    store.down = True
    box.send("start", run=START)
    box.send("figure", run="abc", path=str(file))
    box.send("artifact", run="abc", path=str(folder), folder="bundle")
    file.write_text("second")
    box.send("figure", run="abc", path=str(file))
    _, first, tree, second = (event.get("path") for event in kept(tmp_path))
    (beside,) = (path for path in (tmp_path / "tracking_aside").iterdir() if path.is_dir())
    first, tree, second = beside / first, beside / tree, beside / second
    assert (first.read_text(), second.read_text()) == ("first", "second")
    assert first.name == second.name == "curves.png"
    assert (tree / "below" / "model.onnx").read_text() == "weights"
    store.down = False
    assert box.flush() is None
    assert not first.exists()
    assert [Path(arguments["path"]).name for do, arguments in store.calls if "path" in arguments] == [
        "curves.png",
        "bundle",
        "curves.png",
    ]


@pytest.mark.fault(
    scenario="killed while the tracking store is unreachable",
    command="kedro run",
    outcome="the next run sends what was kept",
)
def test_the_next_run_sends_the_journal_of_a_killed_run(store, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "tracking_aside"
    folder.mkdir()
    lines = [{"do": "start", "run": START}, {"do": "tags", "run": "abc", "values": {"a": "b"}}]
    journal = folder / "mlflow-abc.jsonl"  # without a lock: its process has ended
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"do": "tags", "ru')  # killed mid-line
    store.down = True
    Outbox(store, tmp_path).send_leftovers()
    assert list(folder.iterdir()) == [journal]
    store.down = False
    Outbox(store, tmp_path).send_leftovers()
    assert store.done == ["start", "tags", "finish"]
    assert store.calls[-1][1]["status"] == "KILLED"  # the journal does not say how the run ended
    assert caplog.messages[-1] == f"tracking: calls kept in {folder} have been sent to mlflow"
    assert list(folder.iterdir()) == []


def test_the_journal_of_a_live_run_is_left_alone(box, store, tmp_path):
    store.down = True
    box.send("start", run=START)
    store.down = False
    Outbox(store, tmp_path).send_leftovers()
    assert store.done == []


def test_a_rejected_call_is_logged_and_does_not_block_the_rest(box, store, caplog):
    store.down = True
    box.send("start", run=START)
    box.send("params", run="abc", values={"a": 1})
    store.down, store.refused = False, "params"
    box.send("finish", run="abc", status="FINISHED")
    assert store.done == ["start", "finish"]
    assert "tracking: mlflow rejected params: refused: no such thing" in caplog.messages


@pytest.mark.fault(
    scenario="disk full and tracking store unreachable", command="kedro run", outcome="one warning", review="serving 6"
)
def test_a_full_disk_does_not_stop_the_run(box, store, tmp_path, caplog):
    (tmp_path / "tracking_aside").touch()  # a file where the folder should be
    store.down = True
    box.send("start", run=START)
    box.send("tags", run="abc", values={})
    assert warnings_in(caplog) == [
        "tracking: cannot reach mlflow (http://host is down). The run continues; calls that fail now are lost, because "
        f"{tmp_path / 'tracking_aside'} cannot be written either (File exists)"
    ]
    assert box.close() is None
    assert box.where(outbox.Run(**START)) == "mlflow: not recorded (http://host is down)"


def test_a_value_that_is_not_json_is_kept_as_its_text_and_costs_no_run(box, store, tmp_path):
    box.send("start", run=START)
    store.down = True
    box.send("params", run="abc", values={"a": Path("x"), "b": 1})
    assert kept(tmp_path)[-1]["values"] == {"a": "x", "b": 1}


NESTED = {**START, "key": "abc-fold-1", "parent": "abc"}


def test_a_nested_run_is_kept_with_the_start_of_the_run_above(box, store, tmp_path):
    box.send("start", run=START)
    store.down = True
    box.send("start", run=NESTED)
    box.send("tags", run=NESTED["key"], values={"a": "b"})
    assert [(line["do"], line["run"]) for line in kept(tmp_path)] == [
        ("start", START), ("start", NESTED), ("tags", NESTED["key"])]  # fmt: skip


def test_what_was_lost_while_the_disk_was_full_costs_nothing_that_comes_later(box, store, tmp_path, monkeypatch):
    store.down = True
    with monkeypatch.context() as full:
        full.setattr(Path, "mkdir", no_space)
        box.send("start", run=START)
    box.send("tags", run="abc", values={"a": "b"})
    store.down = False
    assert box.flush() is None
    assert store.done == ["start", "tags"]


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.fault(
    scenario="disk full within a line of tracking's journal",
    command="kedro run",
    outcome="the line is lost, the journal stays readable",
    review="serving 6",
)
def test_a_disk_that_is_full_within_a_line_leaves_whole_lines(box, store, tmp_path, monkeypatch):
    store.down = True
    box.send("start", run=START)
    file = box._journal[2]
    room = [20]

    class Full:
        def fileno(self) -> int:
            return file.fileno()

        def close(self) -> None:
            file.close()

        def write(self, data: bytes) -> int:
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return file.write(data[: room.pop()])

    box._journal = (*box._journal[:2], Full())
    box.send("tags", run="abc", values={"a": "lost"})
    box._journal = (*box._journal[:2], file)
    box.send("tags", run="abc", values={"a": "kept"})
    assert [line["do"] for line in kept(tmp_path)] == ["start", "tags"]
    assert kept(tmp_path)[1]["values"] == {"a": "kept"}


SENT = [{"do": "start", "run": START}, {"do": "tags", "run": "abc", "values": {"a": "b"}}]


@pytest.mark.fault(
    scenario="torn or foreign lines in tracking's journal",
    command="kedro run",
    outcome="skipped and counted; nothing outside its folder is read",
    review="serving 6",
)
@pytest.mark.parametrize(
    "line",
    [
        '{"do": "tags", "ru' + json.dumps({"do": "tags", "run": "abc", "values": {}}),
        "\xff\x00",
        "[" * 100_000,
        "[]",
        '{"do": "failures"}',
        '{"do": "__class__", "run": "abc"}',
        '{"do": "tags", "run": "never started", "values": {}}',
        '{"do": "start", "run": {"key": "x"}}',
        '{"do": "artifact", "run": "abc", "path": "/etc/passwd", "folder": "x"}',
        '{"do": "artifact", "run": "abc", "path": "../../secret", "folder": "x"}',
        '{"do": "artifact", "run": "abc", "path": "0/gone.png", "folder": "x"}',
    ],
    ids=[
        "torn",
        "bytes",
        "deep",
        "list",
        "not a call",
        "private",
        "unknown run",
        "no run",
        "absolute",
        "above",
        "gone",
    ],
)
def test_a_damaged_or_hostile_line_is_skipped_and_told(store, tmp_path, caplog, line):
    folder = tmp_path / "tracking_aside"
    folder.mkdir()
    (tmp_path / "secret").write_text("secret")
    journal = folder / "mlflow-abc.jsonl"
    journal.write_text("\n".join([json.dumps(SENT[0]), line, json.dumps(SENT[1]), ""]), encoding="latin-1")
    Outbox(store, tmp_path).send_leftovers()
    assert store.done == ["start", "tags", "finish"]
    assert warnings_in(caplog) == [f"tracking: 1 damaged line of {journal} skipped"]
    assert list(folder.iterdir()) == []


def test_a_journal_that_cannot_be_opened_is_left(store, tmp_path, monkeypatch):
    folder = tmp_path / "tracking_aside"
    (folder / "mlflow-abc.jsonl").mkdir(parents=True)  # as impossible to open as one of another user
    Outbox(store, tmp_path).send_leftovers()
    assert store.done == []


def test_a_journal_that_was_deleted_is_told(box, store, tmp_path, caplog):
    store.down = True
    box.send("start", run=START)
    next((tmp_path / "tracking_aside").glob("*.jsonl")).unlink()
    store.down = False
    box.send("finish", run="abc", status="FINISHED")
    assert store.done == ["start", "finish"]
    assert "1 damaged line of" in warnings_in(caplog)[-1]


@pytest.mark.fault(
    scenario="mlflow's database is replaced during a run", command="kedro run", outcome="the run is recorded again"
)
def test_a_store_that_has_lost_the_run_gets_it_again(box, store, caplog):
    box.send("start", run=START)
    store.refused = "metrics"
    store.why = "no such run"
    box.send("metrics", run="abc", rows=[], at=1)
    box.send("metrics", run="abc", rows=[], at=2)
    assert store.done == ["start", "start", "start"]  # not for ever: it is rejected then
    assert len(warnings_in(caplog)) == 1


def test_a_run_that_the_store_rejects_costs_one_warning(box, store, caplog):
    store.refused = "start"
    for _ in range(3):
        box.send("tags", run="abc", values={}) if store.calls else box.send("start", run=START)
    box.send("tags", run="abc", values={})
    box.send("finish", run="abc", status="FINISHED")
    assert warnings_in(caplog) == ["tracking: mlflow rejected start: refused: no such thing"]
    assert box.where(outbox.Run(**START)).startswith("mlflow: not recorded")


@pytest.mark.fault(
    scenario="mlflow server is slow", command="kedro run", outcome="left alone for ten times as long as the call took"
)
def test_a_slow_store_is_left_alone_ten_times_as_long_as_it_took(store, tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(outbox.time, "monotonic", lambda: clock[0])
    slow = store.__class__.__getattr__

    def takes_five_seconds(self: Store, do: str) -> Any:
        clock[0] += 5.0
        return slow(self, do)

    monkeypatch.setattr(store.__class__, "__getattr__", takes_five_seconds)
    box = Outbox(store, tmp_path)
    box.send("start", run=START)
    for _ in range(100):  # an epoch of ten seconds each
        clock[0] += 10.0
        box.send("tags", run="abc", values={})
    assert clock[0] == 1000 + 5 + 5 + 7 * 5 + 30 * 5  # start, one, seven after 50 s, thirty after 350 s
    assert box.close() is None
    assert store.done.count("tags") >= 100


PIPELINE = Pipeline([Node(lambda seed: seed, "params:seed", "out", name="train")])
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [1.0, 0.5, 0.25]})


def begin(project: Path, experiment: str = "aside") -> TrackingHooks:
    hooks = TrackingHooks()
    catalog = DataCatalog({})
    catalog["params:tracking"] = {"experiment": experiment}
    catalog["params:seed"] = 7
    about = {"project_path": str(project), "pipeline_names": ["training"], "env": None, "run_id": "now"}
    hooks.before_pipeline_run(about, PIPELINE, catalog)
    return hooks


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
def test_a_store_that_does_not_work_gets_the_run_later(tmp_path, monkeypatch, caplog, uri, text):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri(tmp_path))
    caplog.set_level(logging.WARNING)
    hooks = begin(tmp_path)
    hooks.after_dataset_saved("training_history", HISTORY)
    hooks.after_pipeline_run()
    first, *_, last = (one for one in caplog.messages if one.startswith("tracking: "))
    assert text in first
    assert "secret" not in first
    (journal,) = (tmp_path / "tracking_aside").glob("*.jsonl")
    assert last == f"tracking: calls that failed are kept in {journal}; the next run sends them"
    assert hooks.where == f"mlflow: kept in {journal}"


@pytest.mark.fault(
    scenario="disk of temporary files full",
    command="kedro run",
    outcome="one warning; the run is not tracked completely",
    review="serving 6",
)
def test_a_temporary_folder_without_room_costs_one_warning(tmp_path, store_uri, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    monkeypatch.setattr(Path, "write_text", no_space)
    hooks = begin(tmp_path, "no room")
    hooks.after_dataset_saved("training_history", HISTORY)
    hooks.after_pipeline_run()
    assert warnings_in(caplog) == [
        "tracking: [Errno 28] No space left on device. The run continues, but it is not tracked completely"
    ]


def test_kedro_calls_the_guarded_hooks_with_their_arguments():
    from kedro.framework.hooks import _create_hook_manager

    manager = _create_hook_manager()
    manager.register(TrackingHooks())
    manager.hook.after_dataset_saved(dataset_name="manifest", data=None, node=None)


@pytest.mark.fault(
    scenario="mlflow server hangs", command="kedro run", outcome="a time-out at each end and one warning"
)
def test_a_server_that_hangs_costs_two_time_outs_and_one_warning(tmp_path, monkeypatch, caplog):
    """With the defaults of 10 s and one more attempt, about 22 s at the start and at the end of a run."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        hooks = begin(tmp_path)
        hooks.after_dataset_saved("training_history", HISTORY)
        hooks.after_pipeline_run()
        silent.setblocking(False)
        asked = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                asked += 1
        assert asked == 2
    first, last = (one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING)
    assert "ReadTimeoutError" in first
    assert "the next run sends them" in last


def test_the_next_run_sends_a_run_that_no_store_received(tmp_path, store_uri, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://store")
    hooks = begin(tmp_path)
    hooks.after_dataset_saved("training_history", HISTORY)
    hooks.after_pipeline_run()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    begin(tmp_path).after_pipeline_run()
    client = MlflowClient(store_uri)
    runs = client.search_runs([client.get_experiment_by_name("aside").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    late = next(run for run in runs if "train/loss" in run.data.metrics)
    assert late.data.params["seed"] == "7"
    points = client.get_metric_history(late.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert not list((tmp_path / "tracking_aside").iterdir())


@pytest.mark.fault(scenario="mlflow's database is locked", command="kedro run", outcome="sent at the end of the run")
def test_a_store_locked_during_a_run_gets_the_rest_at_the_end(tmp_path, store_uri, monkeypatch, caplog):
    from mlflow import MlflowClient
    from mlflow.store.db import utils
    from sqlalchemy import sql

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store_uri)
    hooks = begin(tmp_path)
    hooks.after_dataset_saved("training_history", HISTORY.iloc[:1])
    # mlflow waits 20 s for a lock
    monkeypatch.setattr(utils.sql, "text", lambda text, real=sql.text: real(text.replace("= 20000", "= 50")))
    lock = sqlite3.connect(store_uri.removeprefix("sqlite:///"), isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        for rows in (2, 3):
            hooks.after_dataset_saved("training_history", HISTORY.iloc[:rows])
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    recorder = hooks._recorder
    hooks.after_pipeline_run()
    client = MlflowClient(store_uri)
    (run,) = client.search_runs(
        [client.get_experiment_by_name("aside").experiment_id], f"tags.`seg_pipeline.run` = '{recorder.run.key}'"
    )
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert run.info.status == "FINISHED"
    assert sum("database is locked" in message for message in caplog.messages) == 1
    assert hooks.where.startswith(f"mlflow run {run.info.run_id}")
