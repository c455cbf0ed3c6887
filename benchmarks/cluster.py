"""Data processing of 10,000 images of 266 x 266, as UW-Madison's: measured through the ordered map with two workers,
on processes (a) against joblib (b), and on Dask and Ray (a, 0.8 of their seconds) against processes (b).
Starting an engine is not counted, and said in the note. Then an epoch of training on two nodes (a, 0.9 of their
seconds for twice the cores) against one (b), one thread each.

Until November 2026 a task was 64 decoded images of 128 x 128, which took 19 ms: it measured the cost of a task, a few
ms on Dask and Ray, more than the work. A task of the product is 256 images, read, checked and hashed with their masks.

Training has images of 256 x 256. Part of a step does not shrink with a node's share of the batch: casts of the weights,
their gradients and AdamW take 0.22 s of CPU for the 24 million weights of this network, the exchange of their gradients
0.1 s. Of a step of 16 images of 128 x 128, 1.24 s on one node, that leaves an efficiency of at most 0.85 without any
exchange, and of 0.74 with it (CPU time; see docs/how-to/gpus.md). Batches have 32 images; those of 16 gave 0.88. A
state to resume from, half a gigabyte, is written and read after each epoch; epochs here are short, so that it counts
more than in practice.

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

import joblib
import pandas as pd
import torch
from side_by_side import Result, Skipped, compare, judge, report, seconds
from training import config_of
from training import draw as draw_scans

from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import _measure
from seg_pipeline.segmentation.manifest.table import RECORDS, record_blocks
from seg_pipeline.segmentation.parallel import cluster
from seg_pipeline.segmentation.parallel.executors import Processes
from seg_pipeline.segmentation.parallel.ordered_map import map_ordered
from seg_pipeline.segmentation.phantom import CLASSES
from seg_pipeline.segmentation.settings.cluster import ClusterSettings
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.training.run import train

SHRINK = int(os.environ.get("BENCH_SHRINK", "1"))
IMAGES, DRAWN, WORKERS, SIDE = 10_000 // SHRINK, 252, 2, 266
RUNS = 3
SCANS, SCAN_SIDE, EPOCHS = max(32, 128 // SHRINK), 256 if SHRINK == 1 else 64, 4
BATCH = 32
MEASURE = partial(_measure, reader=MaskReader({name: name for name in CLASSES}, "rle", rle_order="C"))


def on_joblib(table: pd.DataFrame) -> int:
    parallel = joblib.Parallel(n_jobs=WORKERS, return_as="generator")
    return sum(map(len, parallel(joblib.delayed(MEASURE)(block) for block in record_blocks(table, RECORDS))))


def on_engine(table: pd.DataFrame) -> int:
    return sum(map(len, map_ordered(cluster.make_executor(WORKERS), MEASURE, record_blocks(table, RECORDS))))


def on_processes(table: pd.DataFrame) -> int:
    return sum(map(len, map_ordered(Processes(WORKERS), MEASURE, record_blocks(table, RECORDS))))


def draw(folder: Path) -> pd.DataFrame:
    """Rows of images to measure: some different ones, each listed many times."""
    drawn = draw_scans(folder, train=DRAWN // SHRINK or 1, size=SIDE)
    return pd.concat([drawn] * -(-IMAGES // len(drawn)), ignore_index=True).head(IMAGES)


def of_engine(name: str, table: pd.DataFrame) -> Result | Skipped:
    begun = time.perf_counter()
    try:
        cluster.connect(ClusterSettings(engine=name, workers=WORKERS))
    except ValueError as error:
        return Skipped(f"map_on_{name}_vs_loky", str(error))
    try:
        on_engine(table.head(WORKERS * RECORDS))  # workers import the package at their first task
        start = time.perf_counter() - begun
        here, there = partial(on_processes, table), partial(on_engine, table)
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
    config = config_of(SCAN_SIDE, "resnet34", batch=BATCH).changed({"fit.epochs": EPOCHS, "fit.validate_every": EPOCHS})
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
    efficiency = statistics.median(single) / 2 / statistics.median(double)
    note = (
        f"U-Net resnet34, {SCANS} images of {SCAN_SIDE} x {SCAN_SIDE}, batches of {BATCH}, {len(single)} epochs; a is "
        f"1.8 times the seconds on two nodes; efficiency {efficiency:.2f}"
    )
    return judge("two_nodes_vs_one", [1.8 * one for one in double], single, limit=1, note=note)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        table = draw(Path(name) / "scans")
        note = f"{IMAGES:,} images of {SIDE} x {SIDE}, {RECORDS} per task, {WORKERS} workers"
        both = partial(on_engine, table), partial(on_joblib, table)
        first = compare("map_ordered_vs_joblib", *both, limit=1.1, runs=RUNS, note=note)
        results = first, of_engine("dask", table), of_engine("ray", table), on_nodes(Path(name))
    return report(*results)


if __name__ == "__main__":
    sys.exit(main())
