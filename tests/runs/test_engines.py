"""The same work on a Ray cluster of two nodes and on two Dask workers; equal to this machine's, even if one dies."""

import gc
import json
import os
import signal
import time
from dataclasses import replace
from multiprocessing import forkserver

import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images
from seg_pipeline.segmentation.parallel import cluster
from seg_pipeline.segmentation.parallel.ordered_map import map_ordered
from seg_pipeline.segmentation.parallel.workers import fork_server
from seg_pipeline.segmentation.settings.cluster import ClusterSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.training.run import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def swept():
    """What the clients leave open is collected here, not in the tests of other files."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def ray_cluster():
    """The settings of a cluster of two nodes, and a function that kills the second."""
    pytest.importorskip("ray", reason="needs the extra [ray]")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_raylet_start_wait_time_s", "120")
        patch.setenv("RAY_worker_niceness", "0")
        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        second = nodes.add_node(num_cpus=1)
        settings = ClusterSettings(engine="ray", address=nodes.address)
        yield settings, lambda: nodes.remove_node(second, allow_graceful=False)
        nodes.shutdown()


@pytest.fixture(scope="module")
def dask_cluster():
    """The settings of a cluster of two workers, and a function that kills one."""
    distributed = pytest.importorskip("distributed", reason="needs the extra [dask]")
    from dask import config

    fork_server()
    forkserver.ensure_running()  # with torch loaded: Dask would have its server load less, and each worker the rest
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    forked = {"distributed.worker.multiprocessing-method": "forkserver"}
    with config.set(forked), distributed.LocalCluster(**options) as local:
        settings = ClusterSettings(engine="dask", address=local.scheduler_address)
        yield settings, lambda: os.kill(next(iter(local.workers.values())).pid, signal.SIGKILL)


@pytest.fixture(scope="module", params=["dask_cluster", "ray_cluster"])
def a_cluster(request):
    return request.getfixturevalue(request.param)


PIPELINES = "data_processing,hparam_search,training,evaluation"


def results_of(project, name, **options):
    """Run the sample with outputs in data/``name``: the manifest, the trials and the scores."""
    params = options.pop("params", "")
    status, said = project.run(
        PIPELINES, params=f"data_root=data/{name},hparam_search.pool.threads=1{params}", **options
    )
    assert status == 0, said
    out = project.folder / "data" / name
    trials = pd.read_parquet(out / "06_models" / "search_trials.parquet")
    assert "do-not-log" not in said
    assert "AKIATEST" not in said
    return (
        pd.read_parquet(out / "05_model_input" / "manifest.parquet"),
        trials.drop(columns="seconds"),
        json.loads((out / "08_reporting" / "test_scores.json").read_text()),
    )


@pytest.fixture(scope="module")
def local_results(project):
    return results_of(project, "local")


def assert_same(ours, theirs):
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert ours[2] == theirs[2]


def test_a_whole_run_ends_with_the_scores_of_this_machine(a_cluster, local_results, project):
    settings, _ = a_cluster
    params = f",cluster.engine={settings.engine},cluster.address={settings.address}"
    pool = ",hparam_search.pool.kind=processes,hparam_search.pool.workers=2"
    assert_same(results_of(project, settings.engine, params=params + pool), local_results)


def test_a_whole_run_on_a_bucket_ends_with_the_scores_of_local_files(store, local_results, project):
    import s3fs

    raw = project.folder / "data" / "01_raw" / "phantom_tiny"
    s3fs.S3FileSystem().put(str(raw), "raw-data/phantom", recursive=True)
    params = ",raw_root=s3://raw-data/phantom"
    manifest, *others = results_of(project, "s3", params=params, variables=store.variables)
    assert manifest["path"].str.startswith("s3://raw-data/phantom/train/case").all()
    manifest["path"] = manifest["path"].str.replace("s3://raw-data/phantom", str(raw))
    assert_same((manifest, *others), local_results)


@pytest.mark.parametrize("a_cluster", ["ray_cluster"], indirect=True)
def test_two_machines_of_a_ray_cluster_train_the_model_of_one(a_cluster, manifest, config, tmp_path, monkeypatch):
    steady = config.changed(
        {"optimizer.name": "sgd", "model.decoder_norm": "instance", "optimizer.freeze_encoder": True, "fit.epochs": 2}
    )
    compute = ComputeSettings(device="cpu", cache="none")
    *_, alone = train(manifest, steady, compute)
    cluster.connect(a_cluster[0])
    try:
        monkeypatch.setattr(cluster, "SECONDS", 0.1)
        too_few = r"nodes: 3, but the cluster \(2 machines\) does not have 2 besides this one with 1 CPU free"
        with pytest.raises(ValueError, match=too_few), cluster.on_other_machines(2, abs, 1, gpus=0, restarts=0):
            pass
        monkeypatch.undo()
        *_, together = train(manifest, steady, replace(compute, nodes=2, shared_folder=str(tmp_path)))
    finally:
        cluster.disconnect()
    for name in ("epoch", "train_loss", "val_loss", "val_dice"):
        np.testing.assert_allclose(together.history[name], alone.history[name], rtol=1e-4, atol=1e-5)
    assert not list(tmp_path.iterdir())


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
def test_results_are_those_of_this_machine_even_if_a_node_dies(a_cluster, tmp_path):
    settings, kill_one = a_cluster
    cluster.connect(settings)
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
