"""The same work on a Ray cluster of two nodes and on two Dask workers, one of which dies; equal to this machine's."""

import os
import signal
import time

import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images
from seg_pipeline.segmentation.parallel import cluster
from seg_pipeline.segmentation.parallel.ordered_map import map_ordered
from seg_pipeline.segmentation.settings.cluster import ClusterSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("CLUSTER" not in os.environ, reason="starts a cluster; CLUSTER=1 asks for it"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def ray_cluster(monkeypatch):
    """A cluster of two nodes and a function that kills the second."""
    pytest.importorskip("ray", reason="needs the extra [ray]")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = nodes.add_node(num_cpus=1)
    cluster.connect(ClusterSettings(engine="ray", address=nodes.address))
    yield lambda: nodes.remove_node(second, allow_graceful=False)
    cluster.disconnect()
    nodes.shutdown()


@pytest.fixture
def dask_cluster():
    """A cluster of two workers and a function that kills one."""
    distributed = pytest.importorskip("distributed", reason="needs the extra [dask]")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as local:
        cluster.connect(ClusterSettings(engine="dask", address=local.scheduler_address))
        yield lambda: os.kill(next(iter(local.workers.values())).pid, signal.SIGKILL)
        cluster.disconnect()


@pytest.fixture(params=["dask_cluster", "ray_cluster"])
def kill_one(request):
    return request.getfixturevalue(request.param)


def drawn_table(folder):
    """Twelve images of 2 x 3, every third damaged, and masks of two pixels."""
    rows = []
    for number in range(12):
        path = folder / f"i{number}.png"
        cv2.imwrite(str(path), np.array([[0, 10, 20], [30, 40, 50 + number]], dtype=np.uint8))
        if number % 3 == 2:
            path.write_bytes(path.read_bytes()[:40])
        rows.append({"image_id": path.stem, "row": number, "file": path.name, "path": str(path), "mask_a": ["1 2"]})
    return pd.DataFrame(rows).assign(group="g")


def slow_square(number):
    time.sleep(0.05)
    return number * number


def refuse(number):
    raise ValueError(f"image {number} is damaged")


@pytest.mark.fault(
    scenario="machine of a cluster that fails",
    command="kedro run --params cluster.engine=ray",
    outcome="its images are read by the others",
)
def test_results_are_those_of_this_machine_even_if_a_node_dies(kill_one, tmp_path):
    executor = cluster.make_executor(1)
    assert executor.workers == 2
    with pytest.raises(ValueError, match=r"^image 1 is damaged$"):
        next(map_ordered(executor, refuse, [1, 2, 3]))

    table = drawn_table(tmp_path)
    reader = MaskReader({"a": "a"}, "rle")
    remote = measure_images(table, reader)
    taken = []
    found = map_ordered(executor, slow_square, (taken.append(one) or one for one in range(40)))
    results = [next(found) for _ in range(5)]
    assert len(taken) == executor.window + 4
    kill_one()
    assert results + list(found) == [number * number for number in range(40)]

    cluster.disconnect()
    local = measure_images(table, reader)
    for one, other in zip(remote, local, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
