"""10,000 small images through the ordered map with two workers: on processes (a) against joblib (b), and on Dask and
Ray (a, 0.8 of their seconds) against processes (b). Starting an engine is not counted, and said in the note. Then an
epoch of training on two nodes (a, 0.9 of their seconds for twice the cores) against one (b), one thread each.

BENCH_SHRINK=50 makes everything as many times smaller, to try the script out; its numbers mean nothing then.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import cv2
import joblib
import numpy as np
import torch
from side_by_side import Result, Skipped, compare, judge, report, seconds
from training import config_of
from training import draw as draw_scans

from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.parallel import cluster
from seg_pipeline.segmentation.parallel.executors import Processes
from seg_pipeline.segmentation.parallel.ordered_map import map_ordered
from seg_pipeline.segmentation.settings.cluster import ClusterSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.training.run import train

SHRINK = int(os.environ.get("BENCH_SHRINK", "1"))
IMAGES, BLOCK, WORKERS, SIDE = 10_000 // SHRINK, 64, 2, 128
RUNS = 3
SCANS, SCAN_SIDE, EPOCHS = max(16, 64 // SHRINK), 128, 5


def read(paths: list[str]) -> int:
    return sum(int(read_image(path).sum()) for path in paths)


def on_joblib(blocks: list[list[str]]) -> int:
    parallel = joblib.Parallel(n_jobs=WORKERS, return_as="generator")
    return sum(parallel(joblib.delayed(read)(block) for block in blocks))


def on_engine(blocks: list[list[str]]) -> int:
    return sum(map_ordered(cluster.make_executor(WORKERS), read, blocks))


def on_processes(blocks: list[list[str]]) -> int:
    return sum(map_ordered(Processes(WORKERS), read, blocks))


def draw(folder: Path) -> list[list[str]]:
    """Blocks of paths: a few hundred different images, each listed many times."""
    rng = np.random.default_rng(0)
    for number in range(256):
        image = rng.integers(0, 4096, (SIDE, SIDE), dtype=np.uint16)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    paths = [str(folder / f"{number % 256}.png") for number in range(IMAGES)]
    return [paths[start : start + BLOCK] for start in range(0, IMAGES, BLOCK)]


def of_engine(name: str, blocks: list[list[str]]) -> Result | Skipped:
    begun = time.perf_counter()
    try:
        cluster.connect(ClusterSettings(engine=name, workers=WORKERS))
    except ValueError as error:
        return Skipped(f"map_on_{name}_vs_loky", str(error))
    try:
        on_engine(blocks)  # workers import the package at their first task
        start = time.perf_counter() - begun
        here, there = partial(on_processes, blocks), partial(on_engine, blocks)
        turns = [(seconds(here), seconds(there)) for _ in range(RUNS)]
    finally:
        cluster.disconnect()
    note = f"a is 0.8 of {name}'s seconds, without the {start:.1f} s of its start and first map; b is that of processes"
    theirs = [b for _, b in turns]
    return judge(f"map_on_{name}_vs_loky", [0.8 * one for one in theirs], [a for a, _ in turns], limit=1, note=note)


def on_nodes(folder: Path) -> Result:
    """Seconds of an epoch, the first one left out, on one node and on two that meet on this machine."""
    torch.set_num_threads(1)
    os.environ["LOKY_MAX_CPU_COUNT"] = "1"  # the cores of a node
    manifest = draw_scans(folder / "raw", train=SCANS, size=SCAN_SIDE)
    config = config_of(SCAN_SIDE, "resnet34", batch=16).changed({"fit.epochs": EPOCHS, "fit.validate_every": EPOCHS})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    shared = folder / "jobs"
    shared.mkdir()
    two = ComputeSettings(device="cpu", num_workers=0, nodes=2, endpoint=endpoint, shared_folder=str(shared))
    *_, one = train(manifest, config, ComputeSettings(device="cpu", num_workers=0), cache_folder=folder / "cache")
    with subprocess.Popen([sys.executable, "-m", "seg_pipeline", "join", str(shared), "--idle", "60"]) as other:
        *_, both = train(manifest, config, two, cache_folder=folder / "cache")
        other.kill()
    single, double = (run.history["seconds"].iloc[1:-1].to_list() for run in (one, both))  # the last one is validated
    note = (
        f"U-Net resnet34, {SCANS} images of {SCAN_SIDE} x {SCAN_SIDE}, batches of 16, {len(single)} epochs; a is 1.8 "
        f"times the seconds on two nodes; efficiency {statistics.median(single) / 2 / statistics.median(double):.2f}"
    )
    return judge("two_nodes_vs_one", [1.8 * one for one in double], single, limit=1, note=note)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        blocks = draw(Path(name))
        note = f"{IMAGES:,} images of {SIDE} x {SIDE}, {BLOCK} per task, {WORKERS} workers"
        first = compare(
            "map_ordered_vs_joblib",
            partial(on_engine, blocks),
            partial(on_joblib, blocks),
            limit=1.1,
            runs=RUNS,
            note=note,
        )
        results = first, of_engine("dask", blocks), of_engine("ray", blocks), on_nodes(Path(name))
    return report(*results)


if __name__ == "__main__":
    sys.exit(main())
