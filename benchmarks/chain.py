"""The steps of data_processing as plain calls, and the phantom that they are measured on. Not a benchmark itself."""

from pathlib import Path

import pandas as pd

from seg_pipeline.segmentation import phantom
from seg_pipeline.segmentation.manifest import cross_checks, files, measure_image, measure_table, metadata, splits
from seg_pipeline.segmentation.manifest import table as manifest

ROOT = Path(__file__).resolve().parents[1]
CLASSES = {name: name for name in phantom.CLASSES}
READER = measure_image.MaskReader(CLASSES, "rle")
PATTERN = (
    r"(?P<group>case\d+)/(?P<series>case\d+_day\d+)/scans/"
    r"slice_(?P<slice>(?P<frame>\d+))_(?P<width>\d+)_(?P<height>\d+)_.*"
)
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def like_uw_madison(*, whole: bool) -> Path:
    """3,836 frames, or 39,456 where ``whole``, made once below data/, which git ignores; the real data has 38,496."""
    folder = ROOT / "data" / "01_raw" / ("phantom_whole" if whole else "phantom_benchmark")
    cases, frames = (137, 144) if whole else (14, 137)
    settings = {"num_cases": cases, "frames_per_series": (frames, frames), "size": 266, "other_size": (310, 360)}
    phantom.write_phantom(folder, **settings, dirty=False, num_workers=-1)
    return folder


def locate(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Annotations, and located images: all that is done before a file is opened."""
    table = pd.read_csv(folder / "train.csv", dtype=str)
    columns = {"image_id": "id", "class": "class", "mask": "segmentation"}
    rows, _ = metadata.clean_annotations(
        table, mask_format="rle", columns=columns, class_values=CLASSES, multiple_masks="refuse"
    )
    index = files.index_files(
        folder / "train", glob="**/*.png", pattern=PATTERN, columns={"image_id": "{series}_slice_{slice}"}
    )
    annotated = metadata.pivot_annotations(rows, list(CLASSES))
    return rows, manifest.merge_files(annotated, index, pd.DataFrame(), mask_format="rle")[0]


def process(
    folder: Path, *, known: pd.DataFrame | None = None, num_workers: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The manifest, and what a next run knows of it."""
    rows, located = locate(folder)
    known = measure_table.measure_rows(located, READER, known, num_workers=num_workers)
    images, _ = measure_table.join_measurements(located, known)
    cross_checks.check_images(images, rows, rle_order="C")
    cross_checks.overlap_matrix(images)
    options = {"shares": SHARES, "grouped": True, "stratified": True, "seed": 17}
    return images.merge(splits.assign_splits(images, **options), on=["image_id", "group"]), known
