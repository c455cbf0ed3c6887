"""All of data_processing, from table and folder to a manifest with splits (a), and a loop that only decodes each file
(b), with as many workers. Most of the time is decoding, and a second run without changes skips it.

The phantom has UW-Madison's size and is drawn once (4.3 GB of disk, some minutes), or a tenth of it if the disk has no
room or with ``--tenth``.
"""

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
            note=f"{len(paths):,} frames",
        )
        minutes = result.median_a * UW_FRAMES / len(paths) / 60
        failed |= side_by_side.report(with_note(result, f"; UW-Madison's {UW_FRAMES:,} would take {minutes:.1f} min"))
    known = chain.process(folder)[1]
    second = side_by_side.compare(
        "second_run",
        lambda: chain.process(folder, known=known),
        lambda: chain.process(folder),
        limit=0.35,
        runs=1,
        note="a second run (a) reads no image; b is the first",
    )
    peak = side_by_side.peak_mib(MEMORY.format(f"chain.Path({str(folder)!r})"))
    note = f"peak for {len(paths):,} frames in one process, libraries included; b is 2 GB"
    memory = side_by_side.judge("preprocessing_memory", [peak], [LIMIT_MIB], limit=1, unit="MiB", note=note)
    return failed | side_by_side.report(second, memory)


def with_note(result: side_by_side.Result, more: str) -> side_by_side.Result:
    return side_by_side.Result(**{**vars(result), "note": result.note + more})


if __name__ == "__main__":
    sys.exit(main())
