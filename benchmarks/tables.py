"""Cleaning, pivoting and merging one million rows (a) and a limit (b): 10 seconds, or five times the time of a fifth
of them. The time grows linearly with the rows.
"""

import sys

import numpy as np
import pandas as pd
import side_by_side

from seg_pipeline.segmentation.manifest.metadata import clean_annotations, pivot_annotations
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


if __name__ == "__main__":
    large, small = make(ROWS), make(ROWS // 5)
    process(*small)
    times = [
        (side_by_side.seconds(lambda: process(*large)), side_by_side.seconds(lambda: process(*small))) for _ in range(3)
    ]
    whole, fifth = ([turn[side] for turn in times] for side in (0, 1))
    sys.exit(
        side_by_side.report(
            side_by_side.judge("million_rows", whole, [10], limit=1, note="b is 10 seconds"),
            side_by_side.judge("million_rows_linear", whole, [5 * time for time in fifth], limit=1.25),
        )
    )
