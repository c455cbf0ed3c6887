"""Write three public abdominal scans as frames and run lengths, in the layout of the UW-Madison GI tract data.

`python scripts/fetch_abdomen.py SDIST FOLDER` reads them from the source distribution of totalsegmentator 2.13.0, which
includes them for its tests; `make abdomen` downloads it and checks its hash. The masks are predictions of
TotalSegmentator, so a score against them measures agreement with that model.
"""

import csv
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from seg_pipeline.segmentation.formats.volume_files import Volume, read_volume
from seg_pipeline.segmentation.formats.volumes import to_uint16
from seg_pipeline.segmentation.images.masks import encode_rle

REFERENCE = "tests/reference_files"
NOTICE = """\
Three abdominal scans (case1 and case2: CT, case3: MR), cut into frames by seg_pipeline's `make abdomen`.

Source   the test images in the source distribution of the Python package totalsegmentator 2.13.0, by Jakob
         Wasserthal and others, https://github.com/wasserth/TotalSegmentator; sha256
         c00ebc7f42cb02d0f7303a5d5672341a9e8117fe8f8bf07cdf0e6768dab7e9a6
Licence  Apache License 2.0, as the source distribution states; its LICENSE is beside this file
Masks    made by a model, TotalSegmentator, not drawn by people: large_bowel is its class colon;
         small_bowel and stomach have the same names. A score against them measures agreement with that model.
Changes  frames are axial, from head to feet, as 16-bit PNG: CT as Hounsfield units + 1024, MR unchanged,
         clipped at 0 (124 voxels of case1, below -1024 HU; the negative voxels of case3).
         Of the DICOM headers, only pixel size, order and scale are used.
"""


class Scan(NamedTuple):
    case: str
    images: str
    labels: str
    values: dict[str, int]
    """Label of each class."""
    intercept: float
    """Value in HU (CT) or MR units of a stored 0."""


CT = {"large_bowel": 20, "small_bowel": 18, "stomach": 6}
SCANS = (
    Scan("case1", "example_ct.nii.gz", "example_seg_fast_force_split.nii.gz", CT, -1024),
    Scan("case2", "example_ct_dicom", "example_seg_dicom.nii.gz", CT, -1024),
    Scan("case3", "example_mr_sm.nii.gz", "example_seg_mr.nii.gz", {**CT, "large_bowel": 15, "small_bowel": 13}, 0),
)


def write_abdomen(sdist: Path, folder: Path) -> None:
    """Write the scans to ``folder``, either completely or not at all; an existing data set is left unchanged.

    Raises:
        ValueError: the archive lacks a file, a scan and its labels differ in size, or ``folder`` contains other files.
    """
    if (folder / "train.csv").exists():
        return
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} contains other files; empty it or name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        with tempfile.TemporaryDirectory() as unpacked:
            root = _unpack(sdist, Path(unpacked))
            rows = [row for scan in SCANS for row in _write_scan(scan, root / REFERENCE, partial)]
            shutil.copy(root / "LICENSE", partial / "LICENSE")
        with (partial / "train.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("id", "class", "segmentation"), *rows])
        (partial / "NOTICE").write_text(NOTICE)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack(sdist: Path, folder: Path) -> Path:
    """Extract the files that are used, and return the archive's top folder."""
    wanted = {scan.labels for scan in SCANS} | {scan.images for scan in SCANS}
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
        top = members[0].name.split("/")[0]
        for member in members:
            inside = member.name.removeprefix(f"{top}/")
            used = inside == "LICENSE" or inside.removeprefix(f"{REFERENCE}/").split("/")[0] in wanted
            if used and inside.startswith((REFERENCE, "LICENSE")):
                archive.extract(member, folder, filter="data")
    absent = [name for name in sorted(wanted) if not (folder / top / REFERENCE / name).exists()]
    if absent:
        raise ValueError(
            f"{sdist}: lacks {', '.join(absent)}; expected the source distribution totalsegmentator 2.13.0"
        )
    return folder / top


def _write_scan(scan: Scan, source: Path, root: Path) -> list[tuple[str, str, str]]:
    """Write the frames of a scan, and return its rows of the table."""
    images = source / scan.images
    volume = read_dicom(images) if images.is_dir() else read_volume(images)
    labels = read_volume(source / scan.labels).values
    if labels.shape != volume.values.shape:
        raise ValueError(f"{scan.labels} is {labels.shape}, {scan.images} {volume.values.shape} (slices, H, W)")
    stored, _ = to_uint16(volume.values, 1, scan.intercept)  # a few voxels below air are clipped
    height, width = stored.shape[1:]
    series, (_, spacing_y, spacing_x) = f"{scan.case}_day0", volume.spacing
    folder = root / "train" / scan.case / series / "scans"
    folder.mkdir(parents=True)
    rows = []
    for number, (image, values) in enumerate(zip(stored, labels, strict=True), start=1):
        cv2.imwrite(str(folder / f"slice_{number:04d}_{width}_{height}_{spacing_x:.2f}_{spacing_y:.2f}.png"), image)
        rows += [
            (f"{series}_slice_{number:04d}", name, encode_rle(values == value, order="C"))
            for name, value in scan.values.items()
        ]
    return rows


def read_dicom(folder: Path) -> Volume:
    """Read axial DICOM files in Hounsfield units, with slices as in ``read_volume``; for untilted scans, face up."""
    import pydicom

    files = sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda one: one.ImagePositionPatient[2])
    values = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in files])
    between = float(files[1].ImagePositionPatient[2] - files[0].ImagePositionPatient[2])
    spacing = (between, *(float(one) for one in files[0].PixelSpacing))
    return Volume(values[::-1, :, ::-1], spacing, None)  # columns in DICOM run to the patient's left


if __name__ == "__main__":
    write_abdomen(Path(sys.argv[1]), Path(sys.argv[2]))
