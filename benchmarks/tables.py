"""Tables of a million rows (a) and a limit (b). Cleaning, pivoting and merging take at most 10 seconds, and five times
as long as for a fifth of the rows. Checking and splitting a million images, of which every tenth has a finding of each
kind, takes at most a minute, and ten times as long as for a tenth of them. After a run of 40,000 images was killed at
90 %, at most 11 % are measured again.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import side_by_side

from seg_pipeline.segmentation.manifest import measure_image, measure_table
from seg_pipeline.segmentation.manifest.cross_checks import check_images, overlap_matrix
from seg_pipeline.segmentation.manifest.measure_image import MaskReader, Outcome
from seg_pipeline.segmentation.manifest.metadata import clean_annotations, pivot_annotations
from seg_pipeline.segmentation.manifest.split_checks import check_leaks
from seg_pipeline.segmentation.manifest.splits import assign_splits
from seg_pipeline.segmentation.manifest.table import merge_files

CLASSES = {name: name for name in ("large_bowel", "small_bowel", "stomach")}
ROWS = 1_000_000
COLUMNS = {"image_id": "id", "class": "class", "mask": "segmentation"}


def make(rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metadata of three rows an image, half of them without mask, and the index of the images."""
    number = rows // 3
    ids = [f"case{index // 288}_day{index // 144 % 2}_slice_{index % 144:04d}" for index in range(number)]
    masks = np.where(np.arange(3 * number) % 2, None, "100 5 400 12 700 9")
    table = pd.DataFrame({"id": np.repeat(ids, 3), "class": list(CLASSES) * number, "segmentation": masks}, dtype="str")
    series = [name.partition("_slice")[0] for name in ids]
    files = pd.DataFrame({"image_id": ids, "file": ids, "path": ids, "series": series, "group": series}, dtype="str")
    return table, files.assign(frame=np.arange(number) % 144)


def process(table: pd.DataFrame, files: pd.DataFrame) -> None:
    rows, _ = clean_annotations(
        table, mask_format="rle", columns=COLUMNS, class_values=CLASSES, multiple_masks="refuse"
    )
    images, _ = merge_files(pivot_annotations(rows, list(CLASSES)), files, pd.DataFrame(), mask_format="rle")
    assert len(images) == len(files)


def make_measured(number: int, path: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measured images of groups of 50, and the rows that they were made of.

    All share a thumbnail band (black borders); of each ten, one has equal pixels, one looks like an image of another
    group, one is dark, one has another dtype, one lacks a row, and in one a mask is missing for a frame.
    """
    rng, at = np.random.default_rng(0), np.arange(number)
    bits = rng.integers(0, 256, (number, 32), dtype=np.uint8)
    bits[:, :4] = 0
    later = at[(at % 10 == 3) & (at >= number // 2)]
    bits[later] = bits[later - number // 2]
    bits[later, 10] ^= 1
    ids = [f"case{index // 50:06d}_slice_{index % 50:04d}" for index in range(number)]
    hashes = [f"{index - number // 2 if index % 10 == 1 and index >= number // 2 else index:032x}" for index in at]
    areas = {f"area_{name}": np.where((at % 10 == 7) & (name == "stomach"), 0, 90) for name in CLASSES}
    images = {
        "image_id": ids, "file": [f"{name}.png" for name in ids], "path": path, "frame": at % 50, "height": 20,
        "group": [f"g{index // 50}" for index in at], "series": [f"s{index // 50}" for index in at], "width": 30,
        "dtype": np.where(at % 10 == 8, "uint16", "uint8"), "channels": 1, "intensity_min": 0, "intensity_max": 200,
        "intensity_mean": np.where(at % 10 == 5, 5.0, 100.0), "content_hash": hashes, "ignore": "",
        "thumbnail": [row.tobytes().hex() for row in bits], "overlaps": np.where(at % 10, "", "0+1:4 0+2:1"), **areas,
        **{f"mask_{name}": "100 30 400 30 500 30" for name in CLASSES},
    }  # fmt: skip
    rows = {"image_id": np.repeat(ids, 3), "class": list(CLASSES) * number, "mask": ["1 2", "", "3 4"] * number}
    annotations = pd.DataFrame(rows, dtype="str").drop(index=np.arange(28, 3 * number, 30))
    texts = dict.fromkeys(("path", "dtype", "overlaps", "ignore", *(f"mask_{name}" for name in CLASSES)), "str")
    return pd.DataFrame(images).astype(texts), annotations.reset_index(drop=True)


def check(images: pd.DataFrame, annotations: pd.DataFrame) -> None:
    found = check_images(images, annotations, rle_order="C")
    assert (found["rule"].value_counts() > len(images) // 200).sum() == 6, found["rule"].value_counts()
    assert overlap_matrix(images)["images"].tolist() == [len(images) // 10] * 2 + [0]
    shares = {"train": 0.7, "val": 0.15, "test": 0.15}
    splits = assign_splits(images, shares=shares, grouped=True, stratified=True, seed=17)
    check_leaks(images, splits, allowed=True)


FRAMES = 40_000
KILLED_AT = 36_000


def located(path: str) -> pd.DataFrame:
    ids = [f"i{index:05d}" for index in range(FRAMES)]
    rows = pd.DataFrame({"image_id": ids, "row": range(FRAMES), "file": ids, "path": path, "group": "g"})
    return rows.assign(mask_a=[["1 2"] for _ in ids])


def measure_some(path: str, folder: str, kill_at: int) -> None:
    """Measure drawn images, each of which is decoded; print how many. The ``kill_at``-th kills the process."""
    measured = 0

    def counting(row: dict, reader: MaskReader) -> Outcome:
        nonlocal measured
        measured += 1
        if measured == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return measure_image.measure_image(row, reader)

    measure_table.measure_image = counting
    measure_table.measure_rows(located(path), MaskReader({"a": "a"}, "rle"), None, folder=Path(folder))
    print(measured)


def measured_again(path: str, folder: Path) -> int:
    """Images that a second run measures after the first was killed."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import tables; tables.measure_some"
    runs = [
        subprocess.run(
            [sys.executable, "-c", f"{code}({path!r}, {str(folder)!r}, {kill_at})"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
        )
        for kill_at in (KILLED_AT, -1)
    ]  # fmt: skip
    assert [run.returncode for run in runs] == [-signal.SIGKILL, 0]
    return int(runs[1].stdout)


def time_cleaning() -> int:
    large, small = make(ROWS), make(ROWS // 5)
    process(*small)
    times = [
        (side_by_side.seconds(lambda: process(*large)), side_by_side.seconds(lambda: process(*small))) for _ in range(3)
    ]
    whole, fifth = ([turn[side] for turn in times] for side in (0, 1))
    return side_by_side.report(
        side_by_side.judge("million_rows", whole, [10], limit=1, note="b is 10 seconds"),
        side_by_side.judge("million_rows_linear", whole, [5 * time for time in fifth], limit=1.25),
    )


def time_checks(path: str) -> int:
    tables = [make_measured(number, path) for number in (ROWS // 10, ROWS)]
    check(*tables[0])
    tenth, whole = (side_by_side.seconds(lambda drawn=drawn: check(*drawn)) for drawn in tables)
    return side_by_side.report(
        side_by_side.judge("million_checks", [whole], [60], limit=1, note="b is 60 seconds"),
        side_by_side.judge("million_checks_linear", [whole], [10 * tenth], limit=1.25),
    )


def count_measured_again(path: str, folder: Path) -> int:
    note = f"of {FRAMES:,} images, killed at {KILLED_AT:,}; b is 11 %"
    again = measured_again(path, folder)
    return side_by_side.report(
        side_by_side.judge("measured_after_a_kill", [again], [0.11 * FRAMES], limit=1, unit="images", note=note)
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        path = str(Path(name, "image.png"))
        cv2.imwrite(path, np.random.default_rng(0).integers(0, 200, (266, 266), dtype=np.uint16))
        return time_cleaning() | time_checks(path) | count_measured_again(path, Path(name, "parts"))


if __name__ == "__main__":
    sys.exit(main())
