"""Inventories in place of listings: what S3 Inventory writes, and tables of one's own."""

import gzip
import json

import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.images.inventory import list_inventory
from seg_pipeline.segmentation.manifest.files import index_files
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import key_of, measure_images
from seg_pipeline.segmentation.manifest.table import merge_files

LINES = [  # bucket, key, size, time, etag, is latest, is delete marker
    '"scans","a/one%20more.png","71","2026-11-20T05:00:00.000Z","e1","true","false"',
    '"scans","a/i2.PNG","72","2026-11-20T05:00:00.000Z","","true","false"',
    '"scans","a/i2.PNG","9","2026-11-19T05:00:00.000Z","old","false","false"',
    '"scans","a/gone.png","","2026-11-20T05:00:00.000Z","","true","true"',
    '"scans","b/i3.png","73","2026-11-20T05:00:00.000Z","e3","true","false"',
    '"scans","a/notes.txt","5","2026-11-20T05:00:00.000Z","e4","true","false"',
]
STAMPS = {"i2.PNG": "72 2026-11-20T05:00:00.000Z", "one more.png": "71 e1"}


def written_by_s3(folder):
    """A manifest.json and its two files, laid out as S3 does."""
    schema = "Bucket, Key, Size, LastModifiedDate, ETag, IsLatest, IsDeleteMarker"
    files = []
    for number, lines in enumerate((LINES[:2], LINES[2:])):
        part = folder / "data" / f"{number}.csv.gz"
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(gzip.compress("\n".join(lines).encode()))
        files.append({"key": f"inventories/scans/daily/data/{number}.csv.gz"})
    manifest = folder / "2026-11-21T01-00Z" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"fileFormat": "CSV", "fileSchema": schema, "files": files}))
    return manifest


def test_an_inventory_of_s3_names_the_newest_files(tmp_path):
    found = list_inventory(str(written_by_s3(tmp_path)), "s3://scans/a", "**/*.png")
    assert found.to_dict() == STAMPS


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("root", ["", "s3://scans/a/"])
def test_a_table_of_ones_own_may_be_csv_or_parquet_with_whole_paths_or_not(tmp_path, ending, root):
    table = pd.DataFrame(
        {
            "path": [f"{root}one more.png", "s3://scans/b/i3.png", f"{root}i2.PNG"],
            "size": [71, 73, 72],
            "ETag": ["e1", "e3", None],
            "last_modified_date": pd.Timestamp("2026-11-20"),
            "owner": "me",
        }
    )
    file = tmp_path / f"inventory.{ending}"
    (table.to_parquet if ending == "parquet" else table.to_csv)(file, index=False)
    found = list_inventory(str(file), "s3://scans/a", "*.png")
    assert found.to_dict() == STAMPS | {"i2.PNG": "72 2026-11-20"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,size\na,1\n", "needs the columns path (or bucket and key), size, and etag or mtime; it has path, size"),
        ("path,etag\na,1\n", "size, and etag or mtime; it has path, etag"),
        ("one,two\n1,2\n", "it has none of them"),
        ("path,size,mtime\nb/a.png,1,2\n", "none of its 1 files is below s3://scans/a and matches the glob '*.png'; "
         "the first is b/a.png"),
        ("", "cannot be read as an inventory (EmptyDataError: No columns to parse from file); expected a CSV or"),
    ],
)  # fmt: skip
def test_an_inventory_that_cannot_be_used_says_why(tmp_path, text, message):
    file = tmp_path / "list.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"list\.csv: ") as told:
        list_inventory(str(file), "s3://scans/a", "*.png")
    assert message in str(told.value)
    with pytest.raises(ValueError, match=r"nowhere\.csv: cannot be read as an inventory \(FileNotFoundError"):
        list_inventory(str(tmp_path / "nowhere.csv"), "s3://scans/a", "*.png")


def test_what_the_inventory_lacks_and_what_the_store_lacks_become_findings(tmp_path):
    """Of four images in the metadata, the inventory lacks i3, and names i2, which the folder has lost."""
    for name in ("i0", "i1", "i3"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.array([[0, 10, 20], [30, 40, 51]], dtype=np.uint8))
    inventory = tmp_path / "inventory.csv"
    inventory.write_text("path,size,etag\ni0.png,70,e0\ni1.png,70,\ni2.png,70,e2\n")
    index = index_files(tmp_path, glob="*.png", pattern=r"(?P<image_id>\w+)\.png", inventory=str(inventory))
    assert index["inventory_stamp"].fillna("none").tolist() == ["70 e0", "none", "70 e2"]
    rows = pd.DataFrame({"image_id": ["i0", "i1", "i2", "i3"], "row": [2, 3, 4, 5], "mask_a": [["1 2"]] * 4})
    merged, missing = merge_files(rows, index, index[:0], mask_format="rle")
    reader = MaskReader({"a": "a"}, "rle")
    manifest, findings = measure_images(merged, reader)
    assert manifest["image_id"].tolist() == ["i0", "i1"]
    assert missing[["image_id", "rule", "action"]].to_numpy().tolist() == [["i3", "row_without_file", "dropped"]]
    assert findings[["image_id", "rule", "action"]].to_numpy().tolist() == [["i2", "unreadable_image", "dropped"]]

    first, second, _ = merged.to_dict("records")
    key = key_of(first, reader)
    (tmp_path / "i0.png").touch()
    assert key_of(first, reader) == key
    assert key_of(first | {"inventory_stamp": "71 e0"}, reader) != key
    key = key_of(second, reader)
    (tmp_path / "i1.png").write_bytes(b"new")
    assert key_of(second, reader) != key
