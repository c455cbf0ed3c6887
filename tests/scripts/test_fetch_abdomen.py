"""`make abdomen`: its steps on drawn scans, and against the shared copy where that and the archive are in reach."""

import csv
import importlib.util
import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from seg_pipeline.segmentation.images.decoding import read_image

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("fetch_abdomen", ROOT / "scripts" / "fetch_abdomen.py")
fetch_abdomen = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(fetch_abdomen)
SHARED = ROOT.parent / "shared" / "data" / "abdomen"
SHAPE = (4, 3, 2)  # right, front, head


def dicom_slice(z, pixels):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.{z + 1}"
    one = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    one.Rows, one.Columns = pixels.shape
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.RescaleSlope, one.RescaleIntercept, one.PixelSpacing = 1, -1024, [2.0, 0.5]
    one.ImagePositionPatient, one.PixelData = [0, 0, 3.0 * z], pixels.astype(np.uint16).tobytes()
    return one


@pytest.fixture
def sdist(tmp_path):
    """An archive as the real one, with scans of 4 x 3 x 2 voxels and a file that is not used."""
    top = tmp_path / "totalsegmentator-2.13.0"
    files = top / fetch_abdomen.REFERENCE
    (files / "example_ct_dicom").mkdir(parents=True)
    (top / "LICENSE").write_text("Apache")
    (top / "setup.py").write_text("raise SystemExit")
    values = np.arange(24, dtype=np.int16).reshape(SHAPE)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[3, 2, 1] = 6  # the stomach: right, front, head
    for scan in fetch_abdomen.SCANS:
        nibabel.save(nibabel.Nifti1Image(labels, np.diag([0.5, 2, 3, 1])), files / scan.labels)
        if scan.images.endswith(".gz"):
            nibabel.save(nibabel.Nifti1Image(values - 1200 * (scan.case == "case1"), np.eye(4)), files / scan.images)
    for z in range(2):  # stored from front to back and from right to left, the feet's file first by name
        pixels = values[::-1, ::-1, z].T + 1024
        dicom_slice(z, pixels).save_as(files / "example_ct_dicom" / f"CT.{z}", enforce_file_format=True)
    with tarfile.open(tmp_path / "sdist.tar.gz", "w:gz") as archive:
        archive.add(top, top.name)
    return tmp_path / "sdist.tar.gz"


def test_scans_become_frames_and_run_lengths(sdist, tmp_path):
    fetch_abdomen.write_abdomen(sdist, tmp_path / "abdomen")
    with (tmp_path / "abdomen/train.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "class", "segmentation"]
    assert rows[1:4] == [
        ["case1_day0_slice_0001", "large_bowel", ""],
        ["case1_day0_slice_0001", "small_bowel", ""],
        ["case1_day0_slice_0001", "stomach", "4 1"],
    ]
    assert len(rows) == 1 + 3 * 2 * 3
    scans = tmp_path / "abdomen/train/case1/case1_day0/scans"
    assert read_image(scans / "slice_0001_4_3_1.00_1.00.png")[0].tolist() == [0, 0, 0, 0]  # below -1024 HU
    scans = tmp_path / "abdomen/train/case2/case2_day0/scans"
    assert read_image(scans / "slice_0001_4_3_0.50_2.00.png")[0].tolist() == [1029, 1035, 1041, 1047]
    assert "made by a model" in (tmp_path / "abdomen/NOTICE").read_text()
    assert (tmp_path / "abdomen/LICENSE").read_text() == "Apache"


def test_dicom_lies_as_the_volume_of_the_same_scan(sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    volume = fetch_abdomen.read_dicom(next(tmp_path.glob(f"out/*/{fetch_abdomen.REFERENCE}/example_ct_dicom")))
    assert volume.spacing == (3.0, 2.0, 0.5)
    np.testing.assert_array_equal(volume.values[0, 0], [5, 11, 17, 23])  # head, front, from left to right


def test_what_is_there_stays_and_what_is_not_ours_is_not_touched(sdist, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="full contains other files"):
        fetch_abdomen.write_abdomen(sdist, tmp_path / "full")
    (tmp_path / "done").mkdir()
    (tmp_path / "done/train.csv").write_text("as it was")
    fetch_abdomen.write_abdomen(sdist, tmp_path / "done")
    assert [path.name for path in (tmp_path / "done").iterdir()] == ["train.csv"]


def test_another_archive_is_refused(tmp_path):
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("other-1/LICENSE"), io.BytesIO())
    with pytest.raises(
        ValueError, match=r"other\.tar\.gz: lacks example_ct\.nii\.gz, .*expected the source distribution"
    ):
        fetch_abdomen.write_abdomen(tmp_path / "other.tar.gz", tmp_path / "abdomen")
    assert not (tmp_path / "abdomen").exists()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the shared real data is not beside this checkout")
def test_the_published_archive_gives_the_shared_scans_file_by_file(tmp_path):
    pinned = re.search(r"totalsegmentator==\S+ --hash=sha256:\w+", (ROOT / "Makefile").read_text())
    assert pinned
    (tmp_path / "pinned.txt").write_text(pinned[0] + "\n")
    command = [*(sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "totalsegmentator")]
    command += ["--require-hashes", "--retries", "0", "-r", str(tmp_path / "pinned.txt"), "-d", str(tmp_path)]
    fetched = subprocess.run(command, capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip(f"the archive is out of reach: {fetched.stderr.strip().splitlines()[-1:]}")
    fetch_abdomen.write_abdomen(next(tmp_path.glob("*.tar.gz")), tmp_path / "abdomen")
    files = {path.relative_to(SHARED): path.read_bytes() for path in SHARED.rglob("*") if path.is_file()}
    assert {path: (tmp_path / "abdomen" / path).read_bytes() for path in files} == files
    assert len(files) == 153
    made = {path.name for path in (tmp_path / "abdomen").rglob("*") if path.is_file()}
    assert made - {path.name for path in files} == {"LICENSE", "NOTICE"}


def test_the_archive_never_becomes_a_dependency():
    for name in ("pyproject.toml", "constraints.txt"):
        assert "totalsegmentator" not in (ROOT / name).read_text().lower()
