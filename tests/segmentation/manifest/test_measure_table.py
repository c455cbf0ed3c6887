"""What is measured again, and what is not."""

import errno
import itertools
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.images.decoding import read_oriented
from seg_pipeline.segmentation.manifest import measure_image, measure_table
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import (
    join_measurements,
    key_of,
    measure_images,
    measure_rows,
    remove_parts,
)
from seg_pipeline.segmentation.parallel.executors import InProcess
from seg_pipeline.segmentation.storage.stored_columns import StoredColumn


def save(path, values):
    assert cv2.imwrite(str(path), np.array(values, dtype=np.uint8))
    return str(path)


def one_image(path, masks, **columns):
    return pd.DataFrame([{"image_id": "i1", "row": 7, "file": "i1.png", "path": path, "group": "g", **columns}]).assign(
        **{name: [value] for name, value in masks.items()}
    )


@pytest.fixture
def two(tmp_path):
    """Two images of one row each, the second with a mask; both 2 x 3."""
    paths = [save(tmp_path / f"i{number}.png", [[0, 10, 20], [30, 40, 50 + number]]) for number in (1, 2)]
    tables = [one_image(path, {"mask_a": masks}) for path, masks in zip(paths, ([], ["1 2"]), strict=True)]
    return pd.concat([tables[0], tables[1].assign(image_id="i2", row=8)], ignore_index=True)


def measure_changed(table, reader, known):
    measures = measure_rows(table, reader, known)
    return *join_measurements(table, measures), measures


def measure_twice(table, again, monkeypatch, *, reader=None, reader_again=None):
    """Ids of the images that the second call reads; its manifest must be that of a call without memory."""
    reader = reader or MaskReader({"a": "a"}, "rle")
    known = measure_changed(table, reader, None)[2]
    read = []
    monkeypatch.setattr(measure_image, "read_oriented", lambda path: read.append(path) or read_oriented(path))
    manifest, findings, _ = measure_changed(again, reader_again or reader, known)
    read_again = [row.image_id for row in again.itertuples() if row.path in read]
    for one, other in zip((manifest, findings), measure_images(again, reader_again or reader), strict=True):
        pd.testing.assert_frame_equal(one, other)
    return read_again


def test_lists_may_be_arrays_as_a_loaded_table_has_them(two):
    arrays = two.assign(mask_a=[np.array(masks, dtype=object) for masks in two["mask_a"]])
    loaded, findings = measure_images(arrays, MaskReader({"a": "a"}, "rle"))
    assert findings.empty
    pd.testing.assert_frame_equal(loaded, measure_images(two, MaskReader({"a": "a"}, "rle"))[0])


def test_what_did_not_change_is_not_read_again(two, monkeypatch):
    assert measure_twice(two, two.assign(row=two["row"] + 5), monkeypatch) == []  # a row more above them


def test_findings_are_kept_too(two, tmp_path, monkeypatch):
    (tmp_path / "i1.png").write_bytes(b"no image")
    assert measure_twice(two, two, monkeypatch) == []


def test_a_changed_file_is_read_again(two, tmp_path, monkeypatch):
    known = measure_changed(two, MaskReader({"a": "a"}, "rle"), None)[2]
    save(tmp_path / "i2.png", [[9, 9, 9], [9, 9, 8]])
    manifest = measure_changed(two, MaskReader({"a": "a"}, "rle"), known)[0]
    assert manifest["intensity_max"].tolist() == [51, 9]


@pytest.mark.parametrize("change", [{"mask_a": [[], ["1 3"]]}, {"group": ["g", "h"]}])
def test_an_image_whose_row_changed_is_read_again(two, change, monkeypatch):
    assert measure_twice(two, two.assign(**change), monkeypatch) == ["i2"]


def test_other_settings_or_another_version_read_all_again(two, monkeypatch):
    other = MaskReader({"a": "a"}, "rle", rle_order="F")
    assert measure_twice(two, two, monkeypatch, reader_again=other) == ["i1", "i2"]
    row = two.to_dict("records")[0]
    before = key_of(row, other)
    monkeypatch.setattr(measure_table, "VERSION", measure_table.VERSION + 1)
    assert key_of(row, other) != before


def test_a_changed_mask_file_is_read_again(tmp_path):
    image = save(tmp_path / "i1.png", [[0, 10, 20], [30, 40, 50]])
    mask = save(tmp_path / "m.png", [[1, 0, 0], [0, 0, 0]])
    table, reader = one_image(image, {"mask_a": [mask]}), MaskReader({"a": "a"}, "files")
    known = measure_changed(table, reader, None)[2]
    save(tmp_path / "m.png", [[1, 1, 1], [0, 0, 0]])
    assert measure_changed(table, reader, known)[0]["area_a"].tolist() == [3]


@pytest.fixture
def three(two, tmp_path):
    """The same, and between them an image that cannot be read."""
    (tmp_path / "i3.png").write_bytes(b"no image")
    broken = one_image(str(tmp_path / "i3.png"), {"mask_a": []}).assign(image_id="i3", row=9)
    return pd.concat([two.iloc[:1], broken, two.iloc[1:]], ignore_index=True)


@pytest.fixture
def many(three):
    """The same 8 times, under 24 names."""
    return pd.concat([three] * 8, ignore_index=True).assign(image_id=[f"i{number:02d}" for number in range(24)])


@pytest.mark.parametrize(("block", "sizes"), [(1, [1] * 24), (2, [2] * 12), (256, [6] * 4)])
def test_the_size_of_blocks_changes_nothing(three, block, sizes, monkeypatch):
    """The second image of each three cannot be read."""
    many, reader = pd.concat([three] * 8, ignore_index=True), MaskReader({"a": "a"}, "rle")
    each = [measure_images(many.iloc[[row]], reader)[0] if row % 3 != 1 else None for row in range(24)]
    taken, measure = [], measure_table._measure
    monkeypatch.setattr(measure_table, "RECORDS", block)
    monkeypatch.setattr(measure_table, "JOINED", 5)
    monkeypatch.setattr(
        measure_table, "_measure", lambda rows, reader: taken.append(len(rows)) or measure(rows, reader)
    )
    manifest, findings, _ = measure_changed(many, reader, None)
    assert taken == sizes
    assert findings["rule"].tolist() == ["unreadable_image"] * 8
    pd.testing.assert_frame_equal(manifest, pd.concat([one for one in each if one is not None], ignore_index=True))


def test_masks_of_measured_images_are_on_disk_until_the_whole_is_saved(many, tmp_path, monkeypatch):
    reader, folder = MaskReader({"a": "a"}, "rle"), tmp_path / "parts"
    expected = measure_rows(many, reader, None)
    for name, number in (("RECORDS", 4), ("JOINED", 2), ("SPILLED", 8)):
        monkeypatch.setattr(measure_table, name, number)
    found = measure_rows(many, reader, None, folder=folder)
    assert isinstance(found["mask_a"].array, StoredColumn)
    stored = [name for name in found if isinstance(found[name].array, StoredColumn)]
    pd.testing.assert_frame_equal(found.astype(dict.fromkeys(stored, "str")), expected)
    remove_parts(folder)
    assert not folder.exists()


def test_what_is_kept_may_come_from_a_file(three, tmp_path, monkeypatch):
    manifest, findings, known = measure_changed(three, MaskReader({"a": "a"}, "rle"), None)
    known.iloc[:2].to_parquet(tmp_path / "known.parquet")
    read = []
    monkeypatch.setattr(measure_image, "read_oriented", lambda path: read.append(path) or read_oriented(path))
    again = measure_changed(three, MaskReader({"a": "a"}, "rle"), pd.read_parquet(tmp_path / "known.parquet"))
    assert read == [three.loc[2, "path"]]
    for one, other in zip(again, (manifest, findings, known), strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert manifest["height"].dtype == "int64"


@pytest.mark.fault(
    scenario="I/O error while an image is read",
    command="kedro run --pipeline data_processing",
    outcome="a finding of this run alone; the next run reads the file again",
    review="data 4",
)
def test_an_io_error_is_a_finding_of_its_run_alone(two, monkeypatch):
    def read(path):
        if path == two["path"][0]:
            raise OSError(errno.EIO, "Input/output error")
        return read_oriented(path)

    monkeypatch.setattr(measure_image, "read_oriented", read)
    manifest, findings, known = measure_changed(two, MaskReader({"a": "a"}, "rle"), None)
    assert manifest["image_id"].tolist() == ["i2"]
    assert findings[["rule", "reason", "action", "image_id"]].to_numpy().tolist() == [
        ["io_error", "the system cannot read the image: [Errno 5] Input/output error", "dropped", "i1"]
    ]
    monkeypatch.undo()
    again, findings, _ = measure_changed(two, MaskReader({"a": "a"}, "rle"), known)
    assert again["image_id"].tolist() == ["i1", "i2"]
    assert findings.empty


class Fragile(InProcess):
    """Its only worker dies while it reads the image i2."""

    def submit(self, function, rows):
        if "i2" not in [row["image_id"] for row in rows]:
            return super().submit(function, rows)
        future = Future()
        future.set_exception(BrokenProcessPool("a worker died"))
        return future


def test_an_image_that_kills_the_process_that_reads_it_is_a_finding_and_its_neighbours_are_read(two, monkeypatch):
    table = pd.concat([two] + [two[:1].assign(image_id=f"i{number}") for number in range(3, 9)], ignore_index=True)
    monkeypatch.setattr(measure_table, "make_executor", lambda _: Fragile())
    manifest, findings, known = measure_changed(table, MaskReader({"a": "a"}, "rle"), None)
    assert manifest["image_id"].tolist() == ["i1", "i3", "i4", "i5", "i6", "i7", "i8"]
    assert findings[["rule", "reason", "action", "image_id"]].to_numpy().tolist() == [
        [
            "io_error",
            "the process that read it died three times: the image or a mask crashes its decoder, or memory ran out "
            "(use fewer workers)",
            "dropped",
            "i2",
        ]
    ]
    monkeypatch.undo()
    again, _, _ = measure_changed(table, MaskReader({"a": "a"}, "rle"), known)
    assert again["image_id"].tolist() == table["image_id"].tolist()


def test_the_file_of_an_address_is_watched(two, tmp_path):
    reader = MaskReader({"a": "a"}, "rle")
    table = two.assign(path=[f"{path}?max_pixels=6" for path in two["path"]])
    known = measure_changed(table, reader, None)[2]
    save(tmp_path / "i2.png", [[9, 9, 9], [9, 9, 8]])
    assert measure_changed(table, reader, known)[0]["intensity_max"].tolist() == [51, 9]


def kill_at(monkeypatch, block):
    """Let measuring end at this block, counted from 0, and every block before it be a part."""
    measure, blocks = measure_table._measure, itertools.count()

    def killed(rows, reader):
        if next(blocks) == block:
            raise KeyboardInterrupt
        return measure(rows, reader)

    monkeypatch.setattr(measure_table, "RECORDS", 4)
    monkeypatch.setattr(measure_table, "JOINED", 2)
    monkeypatch.setattr(measure_table, "PART_SECONDS", 0.0)
    monkeypatch.setattr(measure_table, "monotonic", lambda: 0.0)
    monkeypatch.setattr(measure_table, "_measure", killed)


@pytest.mark.fault(
    scenario="killed while images are measured",
    command="kedro run --pipeline data_processing",
    outcome="only images of the last second are measured again",
)
def test_a_killed_run_loses_only_what_it_has_not_written(many, monkeypatch, tmp_path):
    reader, folder, read = MaskReader({"a": "a"}, "rle"), tmp_path / "parts", []
    whole = measure_rows(many, reader, None)
    monkeypatch.setattr(measure_image, "read_oriented", lambda path: read.append(path) or read_oriented(path))
    for begin, end in ((0, 2), (2, 5)):  # killed twice; a block holds 4 images
        with monkeypatch.context() as patch:
            kill_at(patch, end - begin)
            with pytest.raises(KeyboardInterrupt):
                measure_rows(many, reader, None, folder=folder)
        assert read == many["path"].tolist()[4 * begin : 4 * end]
        read.clear()
    assert sorted(path.name for path in folder.iterdir()) == [f"part-0000{number}.parquet" for number in range(5)]
    pd.testing.assert_frame_equal(measure_rows(many, reader, None, folder=folder), whole)
    assert read == many["path"].tolist()[20:]
    known = pd.concat([whole.iloc[[23, 3]], whole.iloc[:0]])  # the last whole run's, older than the parts
    pd.testing.assert_frame_equal(measure_rows(many, reader, known, folder=folder), whole)
    remove_parts(folder)
    assert not folder.exists()


def test_a_part_that_lost_its_end_is_measured_again(many, monkeypatch, tmp_path, caplog):
    reader, folder = MaskReader({"a": "a"}, "rle"), tmp_path / "parts"
    with monkeypatch.context() as patch:
        kill_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            measure_rows(many, reader, None, folder=folder)
    (folder / "part-00001.parquet").write_bytes(b"PAR1")
    read = []
    monkeypatch.setattr(measure_image, "read_oriented", lambda path: read.append(path) or read_oriented(path))
    with caplog.at_level("WARNING"):
        measures = measure_rows(many, reader, None, folder=folder)
    assert read == many["path"].tolist()[4:8] + many["path"].tolist()[12:]
    pd.testing.assert_frame_equal(measures, measure_rows(many, reader, None))
    assert "part-00001.parquet cannot be read (" in caplog.text
    assert caplog.messages[0].endswith("); its images are measured again")


def test_parts_take_a_twentieth_of_the_time_at_most(many, monkeypatch, tmp_path):
    clock, folder = [0.0], tmp_path / "parts"
    folder.mkdir()
    monkeypatch.setattr(measure_table, "monotonic", lambda: clock[0])
    blocks = [pd.DataFrame({"key": [str(number)], "found": [""]}) for number in range(400)]

    def ticking(*_):
        for block in blocks:
            clock[0] += 0.125
            yield block

    @contextmanager
    def slowly(path):
        clock[0] += 0.375
        yield path

    monkeypatch.setattr(measure_table, "_measure_all", ticking)
    monkeypatch.setattr(measure_table, "replacing", slowly)
    assert len(measure_rows(many, MaskReader({"a": "a"}, "rle"), None, folder=folder)) == 400
    sizes = [len(pd.read_parquet(path)) for path in sorted(folder.iterdir())]
    assert sizes == [1, 60, 60, 60, 60, 60, 60]  # after 0.125 s, then every 7.5 s


def test_measurements_of_another_table_are_refused(many):
    measures = measure_rows(many.head(4), MaskReader({"a": "a"}, "rle"), None)
    with pytest.raises(ValueError, match="measurements are of 4 images, but there are 24 now; run `data_processing`"):
        join_measurements(many, measures)
