"""Disks that are full, folders that are closed, and fifty signals at random moments.

Each ends a command with one sentence and leaves the files of before; a rerun ends as if nothing had happened.
"""

import os
import random
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux"),
]

KILLS = {"data_processing": 8, "hparam_search": 3, "training": 5, "export": 3, "inference": 6}
"""Share of the kills by pipeline, in their order; KILLS=50 in the environment asks for so many in all.

Each meets a running process: a run that ended before its signal is repeated."""
MOST_KILLS = int(os.environ.get("KILLS", "10"))
TRACKED = ("hparam_search", "training")
UNTRACKED = "tracking.enabled=false"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
SECONDS = re.compile(r'"seconds"[:>][^,<}\n]*')
OF_ONE_RUN = (
    "*.sha256",
    "*.previous*",
    "*.tracking.json",
    "*.lock",
    ".lock",
    "study.journal",
    "index.json",
    "run.json",
)


def params(pipeline: str) -> str:
    return f"tracking.enabled={str(pipeline in TRACKED).lower()}"


def contents(path: Path) -> Any:
    """What a file says, without how long it took."""
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
        return table[[name for name in table if "seconds" not in str(name)]].to_json(orient="split")
    if path.suffix == ".pt" and path.parent.name == "06_models":
        return without_seconds(torch.load(path, weights_only=True))
    if path.suffix in (".json", ".jsonl", ".html", ".csv"):
        return SECONDS.sub("", path.read_text())
    return path.read_bytes()


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(one) for key, one in value.items() if "seconds" not in str(key)}
    if isinstance(value, list | tuple):
        return [without_seconds(one) for one in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


def outputs(folder: Path) -> dict[str, Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path for path in files}


def kill(project, pipeline: str, rng: random.Random, times: list[float]) -> bool:
    """Send a signal at a random moment of a run; whether the run was still going.

    Moments are counted in lines of output and not in seconds, so that they fall into the same work on any machine:
    ``times`` are when an undisturbed run wrote its lines.
    """
    line, number = rng.randrange(len(times) - 1), rng.choice(SIGNALS)
    command = project.start(pipeline, params=params(pipeline))
    process = os.pidfd_open(command.process)  # it may end before the signal, and its number be used again
    written(command, process, line + 1)
    select.select([process], [], [], rng.random() * (times[line + 1] - times[line]))
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, number)
    os.close(process)
    status = command.wait()
    assert status in (0, 1, 130, -number), (pipeline, status, command.output[-2000:])
    return status != 0


def written(command, process: int, most: int) -> list[float]:
    """When a command wrote each of its first ``most`` lines, or all if it ends before; ``process`` is its pidfd."""
    times: list[float] = []
    ended = False
    while not ended and len(times) < most:
        ended = bool(select.select([process], [], [], 0.005)[0])
        times += [time.monotonic()] * (command.output.count("\n") - len(times))
    return times


def workers(project) -> list[psutil.Process]:
    """Processes of the project's commands that are still there."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and Path(process.cwd()) == project.folder:
                found.append(process)
    return found


@pytest.fixture(scope="module")
def processed(project):
    """The project after data_processing; afterwards as before."""
    status, output = project.run("data_processing", params=UNTRACKED)
    assert status == 0, output
    return project


def state(folder: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in outputs(folder).items() if path.suffix != ".lock"}


def only_error(output: str) -> str:
    """The sentence that ends the run."""
    assert "Traceback" not in output
    (error,) = re.findall(r"^Error: (.*)$", output, re.M)
    return error


FULL = (
    "File too large; free disk space or set another `data_root`, then repeat the command. Files that were there before"
)


@pytest.mark.fault(
    scenario="quota (RLIMIT_FSIZE)",
    command="data_processing, training",
    outcome="one sentence, exit code 1; old files stay, and a rerun succeeds",
    review="serving 8",
)
@pytest.mark.parametrize(
    ("pipeline", "largest", "text"),
    [
        ("data_processing", 2500, rf"node data_processing\.clean_annotations: \S+/annotations\.parquet: {FULL}"),
        ("training", 100_000, r"node training\.train_model: \S+/last\.pt: the checkpoint could not be written"),
    ],
)
def test_a_quota_ends_a_run_with_a_sentence_and_old_files(processed, pipeline, largest, text):
    before = state(processed.data)
    status, output = processed.run(pipeline, params=UNTRACKED, largest=largest)
    assert status == 1
    assert re.match(text, only_error(output)), output
    after = state(processed.data)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if ".part" in name]
    status, output = processed.run(pipeline, params=UNTRACKED)
    assert status == 0, output


@pytest.mark.fault(
    scenario="read-only output folder",
    command="kedro run --pipeline data_processing",
    outcome="stops before the first node with the folder's name; a rerun succeeds",
)
def test_an_output_folder_that_may_not_be_written_to_stops_a_run_before_it_begins(processed):
    before, folder = state(processed.data), processed.data / "03_primary"
    folder.chmod(0o555)
    try:
        status, output = processed.run("data_processing", params=UNTRACKED)
    finally:
        folder.chmod(0o755)
    assert status == 1
    assert only_error(output).startswith(f"{folder}: no permission to write")
    assert state(processed.data) == before
    assert processed.run("data_processing", params=UNTRACKED)[0] == 0


@pytest.mark.fault(
    scenario="no permission to read an input",
    command="kedro run --pipeline hparam_search",
    outcome="one sentence that names the file",
)
def test_a_file_that_may_not_be_read_is_named(processed):
    file = processed.data / "05_model_input" / "train_val_images.parquet"
    file.chmod(0)
    try:
        status, output = processed.run("hparam_search", params=UNTRACKED)
    finally:
        file.chmod(0o644)
    assert status == 1
    assert f"{file}: Permission denied; check its permissions" in only_error(output)


@pytest.mark.fault(
    scenario="read-only project, `data_root` elsewhere",
    command="kedro run --pipeline data_processing",
    outcome="the run succeeds; one warning that it is not tracked",
    review="serving 6",
)
def test_a_read_only_project_runs_with_its_data_elsewhere_and_one_warning(project, tmp_path):
    folders = [project.folder, *(path for path in project.folder.rglob("*/") if ".git" not in path.parts)]
    modes = {folder: folder.stat().st_mode for folder in folders}
    raw = f"raw_root={tmp_path}/raw,data_root={tmp_path}/out"
    for folder in folders:
        folder.chmod(0o555)
    try:
        status, output = project.run("data_processing", params=raw)
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
    assert status == 0, output
    warnings = [line for line in output.splitlines() if "WARNING" in line and "finding" not in line]
    assert len(warnings) == 1
    assert "tracking: cannot reach mlflow" in warnings[0]
    assert f"{project.folder}/tracking_aside cannot be written either (Permission denied)" in warnings[0]
    assert (tmp_path / "out/05_model_input/manifest.parquet").exists()


@pytest.mark.fault(
    scenario="broken pipe, as with `head -1`",
    command="kedro run --pipeline data_processing",
    outcome="all files are complete; exit code 1",
)
def test_a_reader_that_has_left_costs_no_file(processed, tmp_path):
    """As in ``kedro run | head -1``."""
    root = f"{UNTRACKED},data_root={tmp_path}/out"
    status, output = processed.run("data_processing", params=root, broken_pipe=True)
    assert status == 1
    assert "Traceback" not in output
    wanted = {name for name in outputs(processed.data) if name.startswith(("02", "03", "05_model_input/manifest"))}
    assert wanted <= outputs(tmp_path / "out").keys()


@pytest.mark.fault(
    scenario="LC_ALL=C without UTF-8 mode", command="kedro run --pipeline data_processing", outcome="the same files"
)
def test_a_locale_without_utf_8_changes_nothing(processed):
    """In a process of its own, because Python takes its encodings from the locale when it starts."""
    before = outputs(processed.data)
    said = {name: contents(path) for name, path in before.items()}
    assert not said["08_reporting/findings.html"].isascii()
    command = [sys.executable, "-m", "kedro", "run", "--env", "tiny", "--pipeline", "data_processing"]
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(
        [*command, "--params", UNTRACKED],
        cwd=processed.folder,
        env=os.environ | plain,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert {name: contents(path) for name, path in before.items()} == said


@pytest.mark.timeout(max(900, 90 * MOST_KILLS))
@pytest.mark.fault(
    scenario="SIGTERM, SIGINT and SIGKILL at random moments",
    command="data_processing, hparam_search, training, export, inference",
    outcome="a rerun gives the files of an undisturbed run; no process, temporary file or open mlflow run is left",
)
def test_whatever_is_interrupted_a_rerun_gives_what_an_undisturbed_run_gives(project, running_after):
    times = {}
    for pipeline in KILLS:
        command = project.start(pipeline, params=params(pipeline))
        process = os.pidfd_open(command.process)
        times[pipeline] = written(command, process, sys.maxsize)
        os.close(process)
        assert command.wait() == 0, command.output[-3000:]
    undisturbed, before = (project.data.with_name(name) for name in ("undisturbed", "before"))
    project.data.rename(undisturbed)
    project.data.mkdir()
    rng = random.Random(8)
    for pipeline, share in KILLS.items():
        shutil.copytree(project.data, before)
        met, kills = 0, max(1, round(share * MOST_KILLS / sum(KILLS.values())))
        for _ in range(5 * kills):
            if kill(project, pipeline, rng, times[pipeline]):
                met += 1
            else:  # all that was left had been done before the signal came
                shutil.rmtree(project.data)
                shutil.copytree(before, project.data)
            if met == kills:
                break
        assert met == kills, pipeline
        shutil.rmtree(before)
        status, output = project.run(pipeline, params=params(pipeline))
        assert status == 0, output[-3000:]
        assert "Traceback" not in output
    assert running_after(workers(project)) == []
    one, other = outputs(undisturbed), outputs(project.data)
    assert one.keys() - other.keys() == set()
    more = [name for name in other.keys() - one.keys() if not any(Path(name).match(kind) for kind in OF_ONE_RUN)]
    assert more == []
    differ = [
        name
        for name in one
        if not any(Path(name).match(kind) for kind in OF_ONE_RUN) and contents(one[name]) != contents(other[name])
    ]
    assert differ == []
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        assert database.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchall() == [(0,)]
