"""Images at fsspec addresses: listing, reading, stamps, retries, and what goes wrong."""

import cv2
import fsspec
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.images import decoding, remote
from seg_pipeline.segmentation.images.decoding import read_image, read_size
from seg_pipeline.segmentation.images.listing import list_files
from seg_pipeline.segmentation.manifest.files import index_files
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import key_of, measure_images

PIXELS = np.array([[0, 10, 20], [30, 40, 51]], dtype=np.uint8)
READER = MaskReader({"a": "a"}, "rle")


@pytest.fixture
def bucket(monkeypatch):
    """memory://bucket with two images in two folders, a hidden file and a table; no wait between attempts."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    for name in ("one/i1.png", "two/deep/i2.PNG"):
        system.pipe(f"/bucket/{name}", cv2.imencode(".png", PIXELS)[1].tobytes())
    system.pipe("/bucket/.hidden/i3.png", b"")
    system.pipe("/bucket/train.csv", b"")
    monkeypatch.setattr(decoding, "WAITS", (0, 0))
    return system


class Flaky:
    """A store of one file that answers only after some attempts."""

    def __init__(self, failures):
        self.failures = list(failures)

    def cat_file(self, _):
        if self.failures:
            raise self.failures.pop(0)
        return cv2.imencode(".png", PIXELS)[1].tobytes()

    def info(self, _):
        raise TimeoutError


def one_row(path, masks=("1 2",)):
    return pd.DataFrame([{"image_id": "i1", "row": 7, "file": "i1.png", "path": path, "group": "g"}]).assign(
        mask_a=[list(masks)]
    )


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("**/*.png", ["one/i1.png", "two/deep/i2.PNG"]),
        ("*/*.png", ["one/i1.png"]),
        ("two/**", ["two/deep/i2.PNG"]),
        ("*.csv", ["train.csv"]),
        (".hidden/*", [".hidden/i3.png"]),
    ],
)
def test_a_listing_follows_the_rules_of_a_local_one(bucket, tmp_path, glob, found):
    assert list_files("memory://bucket", glob) == found
    for name in bucket.find("/bucket"):
        (tmp_path / name.removeprefix("/bucket/")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name.removeprefix("/bucket/")).touch()
    assert list_files(tmp_path, glob) == found


def test_an_image_is_indexed_read_and_measured_as_a_local_one(bucket, tmp_path):
    index = index_files("memory://bucket/", glob="**/*.png", pattern=r"(?P<group>\w+)/(.*/)?(?P<image_id>\w+)\.png")
    assert index["path"].tolist() == ["memory://bucket/one/i1.png", "memory://bucket/two/deep/i2.PNG"]
    assert index["image_id"].tolist() == ["i1", "i2"]
    path = index["path"][0]
    np.testing.assert_array_equal(read_image(path), PIXELS)
    assert read_size(f"{path}?orientation=keep") == (2, 3)
    local = tmp_path / "i1.png"
    local.write_bytes(bucket.cat_file("/bucket/one/i1.png"))
    ours, theirs = (measure_images(one_row(str(place)), READER)[0].drop(columns="path") for place in (path, local))
    pd.testing.assert_frame_equal(ours, theirs)


def test_an_object_that_was_written_again_is_measured_again(bucket):
    row = one_row("memory://bucket/one/i1.png").to_dict("records")[0]
    before = key_of(row, READER)
    assert key_of(row, READER) == before
    bucket.pipe("/bucket/one/i1.png", bucket.cat_file("/bucket/one/i1.png"))
    assert key_of(row, READER) != before


@pytest.mark.parametrize("error", [TimeoutError(), OSError(5, "503 Slow Down"), RuntimeError("connection lost")])
def test_an_error_of_the_store_that_passes_costs_attempts_only(monkeypatch, error):
    monkeypatch.setattr(decoding, "WAITS", (0, 0))
    flaky = Flaky([error] * 2)
    monkeypatch.setattr(remote, "_system", lambda _: flaky)
    np.testing.assert_array_equal(read_image("s3://bucket/i1.png"), PIXELS)


@pytest.mark.fault(
    scenario="store that does not answer, or lost an object",
    command="data_processing --params raw_root=s3://...",
    outcome="three attempts, then a finding per image; never another mask",
)
@pytest.mark.parametrize(
    ("error", "rule", "reason"),
    [
        (TimeoutError(), "io_error", "the system cannot read the image: [Errno 5] TimeoutError: "),
        (OSError(5, "503 Slow Down"), "io_error", "the system cannot read the image: [Errno 5] 503 Slow Down"),
        (FileNotFoundError("i1.png"), "unreadable_image", "s3://bucket/i1.png: no such file"),
        (PermissionError("Access Denied"), "io_error", "the system cannot read the image: Access Denied"),
    ],
)
def test_an_error_that_stays_becomes_a_finding(monkeypatch, bucket, error, rule, reason):
    good = one_row("memory://bucket/one/i1.png").assign(image_id="i0")
    usual = remote._system
    broken = Flaky([error] * 9)
    monkeypatch.setattr(remote, "_system", lambda path: broken if path.startswith("s3") else usual(path))
    manifest, findings = measure_images(pd.concat([good, one_row("s3://bucket/i1.png")], ignore_index=True), READER)
    assert manifest["image_id"].tolist() == ["i0"]
    assert findings[["image_id", "rule", "reason", "action"]].to_numpy().tolist() == [["i1", rule, reason, "dropped"]]


@pytest.mark.fault(
    scenario="raw_root at an address that cannot be read",
    command="kedro run",
    outcome="stops before the first node and names the package, the credentials or the address",
)
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("gs://bucket", r"reading gs:// needs a package that is not installed; `pip install 'fsspec\[gs\]'`"),
        ("ftp://me:secret@host/x", "an address of ftp:// holds a user or password, which would be written to tables"),
        ("nowhere://bucket", "nowhere://bucket: there is no protocol nowhere://; expected s3://"),
        ("memory://empty", r"memory://empty: no file matches the glob '\*\*/\*'; check the address and the glob"),
    ],
)
def test_an_address_that_cannot_be_listed_says_why(bucket, address, message):
    with pytest.raises(ValueError, match=message) as told:
        list_files(address, "**/*")
    assert "secret" not in str(told.value)
