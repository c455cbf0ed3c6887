"""Train one model with several processes on one or more machines, with one GPU per process or on the CPU.

torch's ``elastic_launch`` starts and watches them. The first process writes the states to a folder; the calling
process yields them and is the only one that saves. If a process dies, all of them restart from the newest state.
Other machines find the job in the shared folder (``join_jobs``) or get a Ray task, and start their processes for it.
"""

import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

import joblib
import pandas as pd
import pyarrow as pa
import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from seg_pipeline import __version__
from seg_pipeline.segmentation.data.sampler import check_shares
from seg_pipeline.segmentation.manifest.table import data_hash
from seg_pipeline.segmentation.parallel import cluster
from seg_pipeline.segmentation.parallel.workers import exit_with_parent, fork_server
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.storage.atomic import SCRATCH, ScratchFolder, replacing
from seg_pipeline.segmentation.storage.stored_columns import read_table, write_table
from seg_pipeline.segmentation.training.processes import TrainingFailed, join_process_group

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
MAX_SAVED_STATES = 2
JOB = "job.json"
"""File in a job's folder that says what to train."""
STOP, FAILURE = "stop", "failure.txt"
"""Files in a job's folder: a request to stop, and why a process failed for good."""


def train_distributed(
    manifest: pd.DataFrame,
    config: TrainingConfig,
    compute: ComputeSettings,
    saved: dict | None,
    cache_folder: Path | None,
) -> Iterator[dict]:
    """Train with ``compute.processes`` processes, and yield the states to save. The config has no "auto" settings left.

    Raises:
        ValueError: there are fewer GPUs than processes, or a batch cannot be divided among the processes.
        TrainingFailed: a process raised it, or the processes died too often.
    """
    if torch.cuda.is_available() and compute.device != "cpu" and torch.cuda.device_count() < compute.devices:
        raise ValueError(
            f"training.compute.devices: {compute.devices}, but this machine has {torch.cuda.device_count()} GPUs"
        )
    from seg_pipeline.segmentation.data.loaders import open_caches  # here for the reason given in `_train_in_worker`

    check_shares(config.sampling.batch_size, int((manifest["split"] == "train").sum()), compute.processes)  # type: ignore[arg-type]
    shared, endpoint = _rendezvous(compute)
    with ScratchFolder(shared) as folder_name:
        folder = Path(folder_name)
        write_table(manifest, folder / "manifest.parquet")
        cache = cache_folder or folder / "pixel_cache"
        open_caches(manifest, config, mode=compute.cache, folder=cache, shared=True)  # filled once, for all processes
        if saved is not None:
            _write_state(saved, folder, 0)
        job = {"config": config.to_dict(), "compute": asdict(compute), "cache": str(cache), "version": __version__}
        job["data_hash"] = data_hash(manifest)  # once, because it copies all masks
        with replacing(folder / JOB) as draft:  # last and atomically, because other machines watch for it
            draft.write_text(json.dumps(job | {"endpoint": endpoint, "nodes": compute.num_nodes}), encoding="utf-8")
        with _start_other_machines(folder, compute):
            yield from _yield_states(folder, compute)


def _start_other_machines(folder: Path, compute: ComputeSettings) -> AbstractContextManager[None]:
    """Start the processes of other machines if Ray runs there."""
    if compute.num_nodes == 1 or cluster.engine() != "ray":
        return nullcontext()
    gpus = compute.devices if torch.cuda.is_available() and compute.device != "cpu" else 0
    others = compute.num_nodes - 1
    return cluster.on_other_machines(others, _join_for_ray, str(folder), gpus=gpus, restarts=compute.restarts)


def _join_for_ray(name: str) -> None:
    folder = Path(name)
    with tempfile.TemporaryDirectory(prefix="seg_pipeline_cache_") as cache:
        _join_job(folder, json.loads((folder / JOB).read_text(encoding="utf-8")), Path(cache))


def _rendezvous(compute: ComputeSettings) -> tuple[str | None, str]:
    """The shared folder, and the endpoint (HOST:PORT) at which the agents of all machines meet."""
    if compute.num_nodes == 1:
        return None, "127.0.0.1:0"
    host, port = (os.environ.get(f"PET_MASTER_{name}", "") for name in ("ADDR", "PORT"))
    endpoint = compute.endpoint or (host and port and f"{host}:{port}")
    if not endpoint and cluster.engine() == "ray":
        endpoint = cluster.rendezvous_endpoint()
    if not endpoint or not compute.shared_folder:
        setting = (
            "shared_folder: FOLDER`, which all machines can access"
            if endpoint
            else "endpoint: HOST:PORT` of this machine"
        )
        raise ValueError(f"training.compute.nodes: {compute.num_nodes} machines need `training.compute.{setting}")
    Path(compute.shared_folder).mkdir(parents=True, exist_ok=True)
    return compute.shared_folder, endpoint


def join_jobs(shared: Path, *, cache: Path, idle: float) -> list[str]:
    """Join each job that appears in a shared folder, until none has appeared for ``idle`` seconds.

    Args:
        cache: folder of this machine for decoded images.

    Returns:
        Error messages of failed jobs.

    Raises:
        ValueError: the leading machine runs another version of the package, or an image cannot be read.
    """
    seen, failures, last_job = set(), [], time.monotonic()
    while time.monotonic() - last_job < idle:
        for file in sorted(shared.glob(f"{SCRATCH}*/{JOB}")):
            if file in seen or any((file.parent / marker).exists() for marker in (STOP, FAILURE)):
                continue
            seen.add(file)
            failures += _join_job(file.parent, json.loads(file.read_text(encoding="utf-8")), cache)
            last_job = time.monotonic()
        time.sleep(POLL_SECONDS)
    return failures


def _join_job(folder: Path, job: dict, cache: Path) -> list[str]:
    from seg_pipeline.segmentation.data.loaders import open_caches  # here for the reason given in `_train_in_worker`

    if job["version"] != __version__:
        raise ValueError(
            f"the leading machine runs seg_pipeline {job['version']} and this one {__version__}; install the same "
            "version on all machines"
        )
    compute, config = ComputeSettings(**job["compute"]), TrainingConfig.from_dict(job["config"])
    log.info("joining %s at %s with %d processes", folder.name, job["endpoint"], compute.devices)
    open_caches(read_table(folder / "manifest.parquet"), config, mode=compute.cache, folder=cache, shared=True)
    failures: list[Exception] = []
    _launch(folder, compute, failures, cache=cache)
    return [str(error) for error in failures]


def _yield_states(folder: Path, compute: ComputeSettings) -> Iterator[dict]:
    failures: list[Exception] = []
    launcher = threading.Thread(target=_launch, args=(folder, compute, failures), daemon=True)
    launcher.start()
    yielded = 0
    try:
        while (running := launcher.is_alive()) or _newest_state(folder) > yielded:
            if (newest := _newest_state(folder)) > yielded:
                yielded = newest
                yield _read_state(folder, newest)
            elif running:
                time.sleep(POLL_SECONDS)
    finally:
        (folder / STOP).touch()
        launcher.join()
    if (failure_file := folder / FAILURE).exists():
        raise TrainingFailed(failure_file.read_text(encoding="utf-8"))
    if failures:
        raise TrainingFailed(f"the processes died more than {compute.restarts} times: {failures[0]}")


def _launch(folder: Path, compute: ComputeSettings, failures: list[Exception], *, cache: Path | None = None) -> None:
    """Start this machine's processes and wait until they end. ``cache`` is set if another machine leads."""
    # torch warns that processes started from a thread may outlive their parent; `exit_with_parent` ends ours.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.ERROR)
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # a new MASTER_PORT after each restart, see `join`
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    launch = LaunchConfig(
        run_id=folder.name,
        min_nodes=job["nodes"],
        max_nodes=job["nodes"],
        nproc_per_node=compute.devices,
        rdzv_backend="c10d",
        rdzv_endpoint=job["endpoint"],
        rdzv_configs={"is_host": cache is None, "join_timeout": 600},
        local_addr="127.0.0.1" if job["nodes"] == 1 else None,
        max_restarts=compute.restarts,
        monitor_interval=0.2,
        start_method=fork_server().get_start_method(),
    )
    try:
        elastic_launch(launch, _run_worker)(str(folder), None if cache is None else str(cache))
    except (ChildFailedError, RendezvousError) as error:
        failures.append(error)


def _run_worker(name: str, cache: str | None) -> None:
    """Run one process, which trains from the newest state in the folder."""
    folder = Path(name)
    if any((folder / file).exists() for file in (STOP, FAILURE)):
        return  # without an error, or elastic would restart it again
    exit_with_parent(stop=(folder / STOP).exists)
    torch.set_num_threads(max(1, joblib.cpu_count() // int(os.environ["LOCAL_WORLD_SIZE"])))
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    job |= {} if cache is None else {"cache": cache}
    device = join_process_group(folder, cpu=job["compute"]["device"] == "cpu")
    try:
        _train_in_worker(folder, job, device)
    except (TrainingFailed, ValueError) as error:  # a restart may fix other errors, such as a lost process
        (folder / FAILURE).write_text(str(error), encoding="utf-8")
        raise
    dist.destroy_process_group()


def _train_in_worker(folder: Path, job: dict, device: torch.device) -> None:
    # Imported here, so that a process that only checks whether to stop need not load all this.
    from seg_pipeline.segmentation.data.loaders import make_loaders
    from seg_pipeline.segmentation.training import epoch
    from seg_pipeline.segmentation.training.state import restore, start

    manifest, compute = read_table(folder / "manifest.parquet"), ComputeSettings(**job["compute"])
    newest = _newest_state(folder)
    if newest >= 0:
        state = restore(_read_state(folder, newest), device)
    else:
        state = start(TrainingConfig.from_dict(job["config"]), job["data_hash"], device)
    loaders = make_loaders(
        manifest,
        state.config,
        compute,
        device=device,
        cache_folder=Path(job["cache"]),
        rank=dist.get_rank(),
        world=dist.get_world_size(),
    )
    del manifest  # a kilobyte per image; the data sets have copied what they need
    pa.default_memory_pool().release_unused()  # otherwise Arrow keeps the memory for later tables
    for number, _ in enumerate(epoch.fit(state, loaders, save_minutes=compute.save_minutes), start=max(newest, 0) + 1):
        if dist.get_rank() == 0:
            _write_state(state.to_dict(), folder, number)


def _write_state(state: dict, folder: Path, number: int) -> None:
    draft = folder / "draft"
    torch.save(state, draft)
    draft.replace(folder / f"{number:08d}.pt")
    for old in sorted(folder.glob("*.pt"))[:-MAX_SAVED_STATES]:
        old.unlink()


def _read_state(folder: Path, number: int) -> dict:
    return torch.load(folder / f"{number:08d}.pt", map_location="cpu", weights_only=True)


def _newest_state(folder: Path) -> int:
    return max((int(file.stem) for file in folder.glob("*.pt")), default=-1)
