"""map_ordered on every executor: order, window, errors, deaths, cancellation."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import joblib
import psutil
import pytest

from seg_pipeline.segmentation.parallel import cluster
from seg_pipeline.segmentation.parallel.executors import InProcess, Processes
from seg_pipeline.segmentation.parallel.ordered_map import map_ordered
from seg_pipeline.segmentation.settings.cluster import ClusterSettings

ENGINES = ("ray", "dask")


@pytest.fixture(scope="module")
def processes():
    return Processes(2)


def square(number):
    time.sleep(0.01 * (number % 3 == 0))
    return number * number


def refuse(number):
    if number == 3:
        raise ValueError("image 3 is damaged")
    return number


def die_once(number, folder):
    if number == 5 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("make", [InProcess, lambda: Processes(2)], ids=["in process", "processes"])
def test_results_come_in_order_and_an_error_in_place_of_its_result(make):
    assert list(map_ordered(make(), square, range(12))) == [number * number for number in range(12)]
    assert list(map_ordered(make(), square, [])) == []
    found = map_ordered(make(), refuse, range(9))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="image 3 is damaged"):
        next(found)


def test_a_slow_consumer_holds_the_work_back(processes):
    taken = []
    found = map_ordered(processes, abs, (taken.append(one) or one for one in range(50)), window=3)
    next(found)
    time.sleep(0.2)
    assert taken == [0, 1, 2]
    next(found)
    assert taken == [0, 1, 2, 3]
    found.close()


@pytest.mark.slow
def test_a_worker_that_dies_costs_a_retry_and_not_the_run(processes, tmp_path, caplog):
    assert list(map_ordered(processes, partial(die_once, folder=tmp_path), range(20))) == list(range(20))
    assert "a worker died" in caplog.text


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_named(processes):
    found = map_ordered(processes, die, range(9))
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(RuntimeError, match=r"died 3 times, the last time with only this task: 2\. Either memory"):
        next(found)
    assert list(map_ordered(processes, abs, [-1, -2])) == [1, 2]


@pytest.mark.slow
@pytest.mark.fault(
    scenario="image that kills the process that reads it",
    command="data_processing, with several workers",
    outcome="is read alone; the third time it is a finding, and the run goes on",
)
def test_a_task_that_kills_every_worker_can_have_another_value(processes):
    assert list(map_ordered(processes, die, range(5), fallback=lambda number: -number)) == [0, 1, -2, 3, 4]


def test_tasks_that_nobody_wants_any_more_end(processes, running_after):
    found = map_ordered(processes, time.sleep, [0, 600, 600, 600])
    next(found)
    workers = [psutil.Process(pid) for pid in processes._pool._processes]
    found.close()
    assert running_after(workers) == []


INTERRUPTED = """
import signal
import time
from seg_pipeline.segmentation.parallel.executors import Processes
from seg_pipeline.segmentation.parallel.ordered_map import map_ordered

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
for _ in map_ordered(Processes(2), time.sleep, [0, 600, 600, 600]):
    print("at work", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_ends_the_workers(running_after):
    command, pipe = [sys.executable, "-c", INTERRUPTED], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "at work\n"
        workers = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
        said = process.communicate(timeout=120)[1]
    assert running_after(workers) == []
    assert said.endswith("KeyboardInterrupt\n")
    assert "a worker died" not in said


def test_workers_are_those_of_the_settings_or_of_the_step():
    assert isinstance(cluster.make_executor(1), InProcess)
    assert cluster.make_executor(3).workers == 3
    cluster.connect(ClusterSettings(workers=2))
    try:
        assert cluster.make_executor(1).workers == 2
    finally:
        cluster.disconnect()
    assert isinstance(cluster.make_executor(1), InProcess)


@pytest.mark.fault(
    scenario="extra of `cluster.engine` not installed",
    command="kedro run",
    outcome="stops before the first node and names the extra",
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_extra_is_named(engine, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    said = rf"cluster.engine: {engine} needs a package that is not installed; `pip install 'seg_pipeline\[{engine}\]'`"
    with pytest.raises(ValueError, match=said):
        cluster.connect(ClusterSettings(engine=engine))


@pytest.mark.fault(
    scenario="cluster that cannot be reached",
    command="kedro run",
    outcome="stops before the first node and names the address",
)
@pytest.mark.parametrize(("engine", "address"), [("ray", "127.0.0.1:9"), ("dask", "tcp://127.0.0.1:9")])
def test_an_unreachable_cluster_is_named(engine, address, monkeypatch):
    pytest.importorskip(cluster.MODULES[engine], reason=f"needs the extra [{engine}]")
    monkeypatch.setattr(cluster, "SECONDS", 0.5)
    with pytest.raises(ValueError, match=rf"cluster.address: no cluster responds at {address} \(.+\); start it"):
        cluster.connect(ClusterSettings(engine=engine, address=address))


def test_a_cluster_with_another_version_is_refused():
    cluster._check_versions(["0.1.0"] * 2)
    with pytest.raises(ValueError, match=r"the cluster runs seg_pipeline 0\.0\.9 and this machine 0\.1\.0; install"):
        cluster._check_versions(["0.1.0", "0.0.9"])


def test_joblib_works_after_a_map():
    assert list(map_ordered(Processes(2), abs, [-1, 2])) == [1, 2]
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(number) for number in (-3, 4)) == [3, 4]
