"""The whole of data_processing, from table and folder to a manifest with splits, against a bare loop that only reads
and decodes each file once, with as many workers; on a phantom of UW-Madison's size, made once (4.3 GB of disk, some
minutes), or of a tenth of it where the disk has no room or with ``--tenth``. A second run with unchanged inputs against
a first one. Peak memory of a run against 2 GB.
"""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

import chain
import cv2
import joblib
import side_by_side

UW_FRAMES = 38_496
ROOM = 6 * 10**9
"""Bytes that must be free."""
LIMIT_MIB = 2 * 1024
MEMORY = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import chain; chain.process({{}})"


def decode_all(paths: list[str], num_workers: int) -> None:
    tasks = (joblib.delayed(decode)(path) for path in paths)
    sum(joblib.Parallel(n_jobs=num_workers, return_as="generator")(tasks))


def decode(path: str) -> int:
    return cv2.imread(path, cv2.IMREAD_UNCHANGED).size


def main() -> int:
    logging.disable()
    whole = "--tenth" not in sys.argv and shutil.disk_usage(chain.ROOT).free > ROOM
    folder = chain.like_uw_madison(whole=whole)
    paths = [str(path) for path in sorted((folder / "train").rglob("*.png"))]
    for path in paths:
        Path(path).read_bytes()  # from memory for both, or the first to read them would pay for the disk
    failed = 0
    for workers in (1, -1):
        result = side_by_side.compare(
            f"preprocessing_{'1_worker' if workers == 1 else 'all_cores'}",
            lambda workers=workers: chain.process(folder, num_workers=workers),
            lambda workers=workers: decode_all(paths, workers),
            limit=1.5,
            runs=1 if whole else 3,
            note=f"a: data_processing of {len(paths):,} frames, b: decoding them",
        )
        minutes = result.median_a * UW_FRAMES / len(paths) / 60
        failed |= side_by_side.report(
            with_note(result, f"; in proportion, {UW_FRAMES:,} frames take {minutes:.1f} min")
        )
    known = chain.process(folder)[1]
    second = side_by_side.compare(
        "second_run",
        lambda: chain.process(folder, known=known),
        lambda: chain.process(folder),
        limit=0.35,
        runs=1,
        note="a: nothing changed since, no image is read; b: the first run",
    )
    peak = side_by_side.peak_mib(MEMORY.format(f"chain.Path({str(folder)!r})"))
    note = f"a: peak of a run on {len(paths):,} frames in one process, libraries included; b: 2 GB"
    memory = side_by_side.judge("preprocessing_memory", [peak], [LIMIT_MIB], limit=1, unit="MiB", note=note)
    return failed | side_by_side.report(second, memory)


def with_note(result: side_by_side.Result, more: str) -> side_by_side.Result:
    return side_by_side.Result(**{**vars(result), "note": result.note + more})


if __name__ == "__main__":
    sys.exit(main())
