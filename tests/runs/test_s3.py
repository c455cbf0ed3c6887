"""A data set in an S3 bucket: images and masks from a store that fails now and then, and commands that it refuses."""

import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.datasets.coco import CocoDataset
from seg_pipeline.datasets.volumes import VolumeDataset
from seg_pipeline.segmentation.images import decoding
from seg_pipeline.segmentation.inference.prefetch import Reader
from seg_pipeline.segmentation.inference.sources import find_images
from seg_pipeline.segmentation.manifest.files import index_files
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images
from seg_pipeline.segmentation.manifest.table import merge_files
from seg_pipeline.segmentation.phantom import write_example
from seg_pipeline.segmentation.settings.training import InputSettings

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
NUMBERS = range(8)


def tables_of(root):
    """Manifest without its paths, and findings, of the images and masks below a folder or an address."""
    images = index_files(f"{root}/images", glob="*.png", pattern=r"(?P<image_id>\w+)\.png")
    masks = index_files(f"{root}/masks", glob="*.png", pattern=r"(?P<mask_id>\w+)\.png")
    ids = [f"i{number}" for number in NUMBERS]
    rows = pd.DataFrame({"image_id": ids, "row": NUMBERS, "mask_a": [[f"m{name}"] for name in ids]})
    merged, missing = merge_files(rows, images, masks, mask_format="files")
    manifest, found = measure_images(merged, MaskReader({"a": "a"}, "files"))
    return manifest.drop(columns="path"), pd.concat([missing, found], ignore_index=True)


@pytest.fixture
def written(store, tmp_path, monkeypatch):
    """Eight images and masks, each different, in a folder and in a bucket."""
    import s3fs

    monkeypatch.setattr(decoding, "WAITS", (0, 0))
    rng = np.random.default_rng(3)
    for folder, start, ending in (("images", 0, "i"), ("masks", 0, "mi")):
        (tmp_path / folder).mkdir()
        for number in NUMBERS:
            pixels = rng.integers(start, 200, (40, 48)) if folder == "images" else 255 * (rng.random((40, 48)) > 0.5)
            cv2.imwrite(str(tmp_path / folder / f"{ending}{number}.png"), pixels.astype(np.uint8))
    s3fs.S3FileSystem().put(str(tmp_path), "raw-data/set", recursive=True)
    return tmp_path


@pytest.mark.fault(
    scenario="store that answers slowly, in part, or not at all",
    command="data_processing --params raw_root=s3://...",
    outcome="tries again; what stays unreadable is a finding, and no mask is another one",
)
def test_a_store_that_fails_costs_retries_and_then_findings_but_never_a_wrong_mask(store, written):
    local, nothing = tables_of(written)
    assert nothing.empty
    assert len(local) == len(NUMBERS)
    store.faults = {
        "/i0.png": [503, 503, 503],
        "/i1.png": ["stall"],
        "/mi2.png": ["short", "short"],
        "/mi3.png": [503] * 99,
        "/i4.png": [404] * 99,
        "/mi5.png": [500, "stall", "short"],
    }
    remote, findings = tables_of("s3://raw-data/set")
    told = findings.set_index("image_id")
    assert told["rule"].to_dict() == {"i3": "io_error", "i4": "unreadable_image"}
    assert told["action"].tolist() == ["dropped", "dropped"]
    assert "SlowDown" in told["reason"]["i3"]
    assert told["reason"]["i4"].endswith("i4.png: no such file")
    kept = local[~local["image_id"].isin(["i3", "i4"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(remote, kept, check_exact=True)
    assert store.asked["i0.png"] > store.asked["i6.png"]


@pytest.mark.parametrize("layout", ["nifti", "coco"])
def test_volumes_and_coco_in_the_bucket_give_the_tables_of_the_folder(store, tmp_path, monkeypatch, layout):
    import s3fs

    monkeypatch.setattr(decoding, "WAITS", (0, 0))
    write_example(tmp_path / "raw", layout=layout, num_cases=2, days_per_case=1, frames_per_series=[3, 3], size=64)
    s3fs.S3FileSystem().put(str(tmp_path / "raw"), f"raw-data/{layout}", recursive=True)
    fails = "annotations.json" if layout == "coco" else "case1_day0.nii.gz"
    store.faults = {fails: [503, "short"], "case1_day0_slice_0001.png": [503] * 99}

    def tables(root, outputs):
        if layout == "coco":
            return [CocoDataset(filepath=f"{root}/annotations.json", images="images", fetched=str(outputs)).load()]
        names = {
            one: {"glob": f"{one}/*", "pattern": rf"{one}/(?P<series>.+)\.nii\.gz"} for one in ("images", "labels")
        }
        entries = [
            VolumeDataset(filepath=root, part=part, slices={"path": str(outputs / "slices")}, **names)
            for part in ("images", "annotations")
        ]
        return [one.load().drop(columns="path", errors="ignore") for one in entries]

    expected = tables(str(tmp_path / "raw"), tmp_path / "local")
    for far, near in zip(tables(f"s3://raw-data/{layout}", tmp_path / "far"), expected, strict=True):
        pd.testing.assert_frame_equal(far, near)
    assert store.faults[fails] == []


def test_a_list_in_the_bucket_names_images_there(store, written):
    import s3fs

    s3fs.S3FileSystem().pipe("raw-data/set/list.csv", b"path\nimages/i2.png\ns3://raw-data/set/images/i5.png\n")
    table, _ = find_images("s3://raw-data/set/list.csv")
    assert table["path"].tolist() == [f"s3://raw-data/set/images/i{number}.png" for number in (2, 5)]
    reader = Reader(table, InputSettings())
    for at, number in enumerate((2, 5)):
        local = decoding.read_image(written / f"images/i{number}.png")
        np.testing.assert_array_equal(np.squeeze(reader.load(at).image), np.squeeze(local))


@pytest.mark.fault(
    scenario="credentials that the store refuses",
    command="kedro run --params raw_root=s3://...",
    outcome="stops before the first node, names the address and keeps the credentials to itself",
)
def test_wrong_credentials_stop_the_run_before_its_first_node(store, project):
    variables = store.variables | {"AWS_ACCESS_KEY_ID": "AKIAWRONG"}
    status, said = project.run("data_processing", params="raw_root=s3://raw-data/set", variables=variables)
    assert status == 1
    assert "Running node" not in said
    assert "Traceback" not in said
    assert "s3://raw-data/set" in said
    assert "credentials" in said
    assert "AKIAWRONG" not in said
    assert "do-not-log" not in said
