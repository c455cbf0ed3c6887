"""10,000 small images through the ordered map with two workers: on processes (a) against joblib (b), and on Dask and
Ray (a, 0.8 of their seconds) against processes (b). Starting an engine is not counted, and said in the note.
"""

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import cv2
import joblib
import numpy as np
from side_by_side import Result, Skipped, compare, judge, report, seconds

from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.parallel import cluster
from seg_pipeline.segmentation.parallel.executors import Processes
from seg_pipeline.segmentation.parallel.ordered_map import map_ordered
from seg_pipeline.segmentation.settings.cluster import ClusterSettings

IMAGES, BLOCK, WORKERS, SIDE = 10_000, 64, 2, 128
RUNS = 3


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
        return report(first, of_engine("dask", blocks), of_engine("ray", blocks))


if __name__ == "__main__":
    sys.exit(main())
