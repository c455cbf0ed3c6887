"""Train one model with several processes on this machine, with one GPU per process or on the CPU.

torch's ``elastic_launch`` starts and watches them. The first process writes the states to save to a temporary folder;
the caller's process yields them, and is the only one that saves. If a process dies, all of them restart from the
newest state.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import joblib
import pandas as pd
import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from seg_pipeline.segmentation.data.sampler import check_shares
from seg_pipeline.segmentation.parallel.workers import exit_with_parent
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.storage.atomic import ScratchFolder
from seg_pipeline.segmentation.training.processes import TrainingFailed, join

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.1
KEPT_STATES = 2
STOP, FAILURE = "stop", "failure.txt"
"""Files in the folder: a request to stop, and the reason why a process failed permanently."""


def train_together(
    manifest: pd.DataFrame,
    config: TrainingConfig,
    compute: ComputeSettings,
    saved: dict | None,
    cache_folder: Path | None,
) -> Iterator[dict]:
    """Train with ``compute.devices`` processes, and yield the states to save. The config has no "auto" settings left.

    Raises:
        ValueError: there are fewer GPUs than processes, or a batch cannot be divided among the processes.
        TrainingFailed: its own message, or why the processes ended.
    """
    if torch.cuda.is_available() and compute.device != "cpu" and torch.cuda.device_count() < compute.devices:
        raise ValueError(
            f"training.compute.devices: {compute.devices}, but this machine has {torch.cuda.device_count()} GPUs"
        )
    from seg_pipeline.segmentation.data.loaders import open_caches  # here for the reason given in `_train`

    check_shares(config.sampling.batch_size, int((manifest["split"] == "train").sum()), compute.devices)  # type: ignore[arg-type]
    with ScratchFolder() as name:
        folder = Path(name)
        manifest.to_parquet(folder / "manifest.parquet")
        cache = cache_folder or folder / "pixel_cache"
        open_caches(manifest, config, mode=compute.cache, folder=cache, shared=True)  # once, here: all find it
        job = {"config": config.to_dict(), "compute": asdict(compute), "cache": str(cache)}
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        if saved is not None:
            _write(saved, folder, 0)
        yield from _states(folder, compute)


def _states(folder: Path, compute: ComputeSettings) -> Iterator[dict]:
    failure: list[Exception] = []
    launched = threading.Thread(target=_launch, args=(folder, compute, failure), daemon=True)
    launched.start()
    seen = 0
    try:
        while (running := launched.is_alive()) or _newest(folder) > seen:
            if (newest := _newest(folder)) > seen:
                seen = newest
                yield _read(folder, newest)
            elif running:
                time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        (folder / STOP).touch()
        launched.join()
    if (reason := folder / FAILURE).exists():
        raise TrainingFailed(reason.read_text(encoding="utf-8"))
    if failure:
        raise TrainingFailed(f"the processes died more than {compute.restarts} times: {failure[0]}")


def _launch(folder: Path, compute: ComputeSettings, failure: list[Exception]) -> None:
    # It warns that a thread's processes may outlive their parent: `exit_with_parent` ends them.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.ERROR)
    launch = LaunchConfig(
        run_id=folder.name,
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=compute.devices,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=compute.restarts,
        monitor_interval=0.2,
        start_method="spawn",
    )
    try:
        elastic_launch(launch, _work)(str(folder), os.getpid())
    except ChildFailedError as error:
        failure.append(error)


def _work(name: str, parent: int) -> None:
    """Run one process, which trains from the newest state in the folder."""
    folder = Path(name)
    if any((folder / file).exists() for file in (STOP, FAILURE)):
        return  # started again in vain: only what ends without an error ends for good
    exit_with_parent(parent, stop=(folder / STOP).exists)
    torch.set_num_threads(max(1, joblib.cpu_count() // int(os.environ["LOCAL_WORLD_SIZE"])))
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    device = join(folder, cpu=job["compute"]["device"] == "cpu")
    try:
        _train(folder, job, device)
    except (TrainingFailed, ValueError) as error:  # a restart may fix others, such as a lost process
        (folder / FAILURE).write_text(str(error), encoding="utf-8")
        raise
    dist.destroy_process_group()


def _train(folder: Path, job: dict, device: torch.device) -> None:
    # Here, so that a process which only looks whether to end has not to load all this.
    from seg_pipeline.segmentation.data.loaders import make_loaders
    from seg_pipeline.segmentation.manifest.table import data_hash
    from seg_pipeline.segmentation.training import epoch
    from seg_pipeline.segmentation.training.state import restore, start

    manifest, compute = pd.read_parquet(folder / "manifest.parquet"), ComputeSettings(**job["compute"])
    newest = _newest(folder)
    if newest >= 0:
        state = restore(_read(folder, newest), device)
    else:
        state = start(TrainingConfig.from_dict(job["config"]), data_hash(manifest), device)
    loaders = make_loaders(
        manifest,
        state.config,
        compute,
        device=device,
        cache_folder=Path(job["cache"]),
        rank=dist.get_rank(),
        world=dist.get_world_size(),
    )
    for number, _ in enumerate(epoch.fit(state, loaders, save_minutes=compute.save_minutes), start=max(newest, 0) + 1):
        if dist.get_rank() == 0:
            _write(state.to_dict(), folder, number)


def _write(state: dict, folder: Path, number: int) -> None:
    draft = folder / "draft"
    torch.save(state, draft)
    draft.replace(folder / f"{number:08d}.pt")
    for old in sorted(folder.glob("*.pt"))[:-KEPT_STATES]:
        old.unlink()


def _read(folder: Path, number: int) -> dict:
    return torch.load(folder / f"{number:08d}.pt", map_location="cpu", weights_only=True)


def _newest(folder: Path) -> int:
    return max((int(file.stem) for file in folder.glob("*.pt")), default=-1)
