import hashlib
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import nibabel
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.formats import volumes
from seg_pipeline.segmentation.formats.volumes import (
    Case,
    Cutting,
    index_volumes,
    label_rows,
)
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.images.intensities import fit_uint16, to_uint16
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS, pivot_annotations
from seg_pipeline.segmentation.manifest.table import merge_files
from seg_pipeline.segmentation.parallel.executors import InProcess

# By (right, front, head): 4 x 3 x 2 voxels of 1, 2 and 5 mm; a voxel's value is 100 x + 10 y + z.
RAS = np.fromfunction(lambda x, y, z: 100 * x + 10 * y + z, (4, 3, 2)).astype(np.int16)
SPACING = np.diag([1.0, 2.0, 5.0, 1.0])


def save(path, values=RAS, affine=SPACING):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def case(folder, image=RAS, labels=None, name="scan"):
    labels = np.zeros(image.shape, dtype=np.uint8) if labels is None else labels
    files = save(folder / f"{name}.nii.gz", image), save(folder / "labels" / f"{name}.nii.gz", labels)
    return Case(name, (files[0],), files[1], "patient")


@pytest.mark.parametrize(
    ("values", "fitted"),
    [
        ([0, 65535], (1, 0)),
        ([5, 9], (1, 0)),
        ([-1024, 3071], (1, -1024)),
        ([-40000, 40000], (80000 / 65535, -40000)),
        ([0.25, 1.25], (1 / 65535, 0.25)),
        ([7.0, 9.0], (1, 0)),  # whole numbers in a file of fractions
        ([0.5, 0.5], (1, 0.5)),
    ],
)
def test_whole_numbers_stay_and_fractions_use_the_whole_range(values, fitted):
    assert fit_uint16(np.array(values)) == pytest.approx(fitted)


def test_stored_values_and_what_is_clipped_by_hand():
    stored, clipped = to_uint16(np.array([-2000, -1024, 0, 70000]), 1, -1024)
    assert stored.tolist() == [0, 0, 1024, 65535]
    assert stored.dtype == np.uint16
    assert clipped == 2


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="2 of its values are NaN or infinite"):
        fit_uint16(np.array([1, np.nan, np.inf]))


def test_labels_become_rows_and_an_empty_slice_says_so():
    values = np.array([[[0, 2, 2], [7, 0, 0]], [[0, 0, 0], [0, 0, 0]]])
    assert label_rows(values, ["a", "b"]).fillna("").to_numpy().tolist() == [
        ["a", "2", "2 2"],
        ["a", "7", "4 1"],
        ["b", NO_CLASS, ""],
    ]


def test_a_negative_label_is_a_row():
    assert label_rows(np.array([[[0, -1, 2]]]), ["a"]).to_numpy().tolist() == [["a", "-1", "2 1"], ["a", "2", "3 1"]]


def test_a_case_becomes_files_and_rows(tmp_path):
    labels = np.zeros(RAS.shape, dtype=np.uint8)
    labels[3, 2, 1] = 1  # right, front, head: the end of the first slice's first row
    images, annotations = index_volumes([case(tmp_path, labels=labels)], tmp_path / "store", Cutting())
    assert images["image_id"].tolist() == ["scan_0000", "scan_0001"]
    row = images.iloc[0]
    assert row[["group", "series", "frame", "file"]].tolist() == ["patient", "scan", 0, "scan/0000.png"]
    assert row[["spacing_z", "spacing_y", "spacing_x"]].tolist() == [5.0, 2.0, 1.0]
    assert row[["slope", "intercept", "clipped_pixels"]].tolist() == [1, 0, 0]
    np.testing.assert_array_equal(read_image(row["path"])[0], [21, 121, 221, 321])
    assert annotations.fillna("").to_numpy().tolist() == [["scan_0000", "1", "4 1"], ["scan_0001", NO_CLASS, ""]]


def test_a_declared_scale_holds_for_every_volume_and_clipping_is_counted(tmp_path):
    images, _ = index_volumes([case(tmp_path, image=RAS - 120)], tmp_path / "store", Cutting("axial", 1, -100))
    assert images[["slope", "intercept"]].drop_duplicates().to_numpy().tolist() == [[1, -100]]
    assert images["clipped_pixels"].tolist() == [2, 2]  # 20 and more below: 1 and 11 of the head, 0 and 10 of the feet
    assert read_image(images["path"][0])[0].tolist() == [1, 101, 201, 301]


def test_three_channels_are_a_colour_image(tmp_path):
    one = case(tmp_path)
    files = [save(tmp_path / f"c{number}.nii.gz", RAS + 300 * number) for number in range(3)]
    images, _ = index_volumes([Case("scan", tuple(files), one.labels)], tmp_path / "store", Cutting())
    assert read_image(images["path"][0])[0, 1].tolist() == [121, 421, 721]
    assert {"slope_0", "intercept_2"} <= set(images)


def test_an_unchanged_case_is_not_cut_again_and_a_changed_one_is(tmp_path):
    one, store = case(tmp_path), tmp_path / "store"
    first, _ = index_volumes([one], store, Cutting())
    path = store / first["path"][0]
    before = path.stat().st_mtime_ns
    time.sleep(0.01)
    again, _ = index_volumes([one], store, Cutting())
    assert again.equals(first)
    assert path.stat().st_mtime_ns == before
    save(one.images[0], RAS + 1)
    changed, _ = index_volumes([one], store, Cutting())
    assert not path.exists()
    assert read_image(changed["path"][0])[0].tolist() == [22, 122, 222, 322]
    assert len(list((store / "scan").iterdir())) == 1


def test_files_are_hashed_once_per_run(tmp_path, monkeypatch):
    one, store = case(tmp_path), tmp_path / "store"
    hashed = []
    monkeypatch.setattr("hashlib.file_digest", lambda file, kind: hashed.append(file.name) or hashlib.new(kind))
    for _ in range(3):
        index_volumes([one], store, Cutting())
    assert hashed == [str(one.images[0]), str(one.labels)]


def test_a_volume_that_kills_the_process_that_reads_it_is_a_problem_of_its_own(tmp_path, monkeypatch):
    class Fragile(InProcess):
        def submit(self, function, task):
            if task[0].name != "b":
                return super().submit(function, task)
            future = Future()
            future.set_exception(BrokenProcessPool("a worker died"))
            return future

    monkeypatch.setattr(volumes, "make_executor", lambda _: Fragile())
    images, _ = index_volumes([case(tmp_path, name=name) for name in "abc"], tmp_path / "store", Cutting())
    assert images["file"].tolist() == ["a/0000.png", "a/0001.png", "b.nii.gz", "c/0000.png", "c/0001.png"]
    assert images["problem"].dropna().tolist() == [
        "the process that read it died three times: it crashes its decoder, or memory ran out (use fewer workers)"
    ]


@pytest.mark.fault(
    scenario="cutting of volumes breaks off",
    command="kedro run --pipeline data_processing",
    outcome="nothing half-made is left",
)
def test_a_cut_that_was_broken_off_leaves_nothing(tmp_path):
    broken = case(tmp_path, labels=np.full(RAS.shape, 0.6))
    images, annotations = index_volumes([broken], tmp_path / "store", Cutting())
    assert images["problem"].tolist() == [
        "scan.nii.gz: labels must be whole numbers, found 0.6 and other fractions in 24 voxels: they were interpolated."
        " Resample the originals by nearest neighbour"
    ]
    assert annotations.empty
    assert not list((tmp_path / "store").rglob("*.png"))


@pytest.mark.slow
def test_one_bad_case_does_not_stop_the_others(tmp_path):
    bad = Case("bad", (tmp_path / "gone.nii.gz",), tmp_path / "gone.nii.gz")
    images, _ = index_volumes([bad, case(tmp_path)], tmp_path / "store", Cutting(), num_workers=2)
    assert images["image_id"].fillna("").tolist() == ["", "scan_0000", "scan_0001"]
    assert "gone.nii.gz" in images["problem"][0]


def moved(*origin, sides=(1.0, 2.0, 5.0)):
    affine = np.diag([*sides, 1.0])
    affine[:3, 3] = origin
    return affine


TURNED = SPACING.copy()  # by 0.1 about the axis from feet to head; the furthest corner is 5 mm from it
TURNED[:2, :2] = [[np.cos(0.1), -2 * np.sin(0.1)], [np.sin(0.1), 2 * np.cos(0.1)]]


@pytest.mark.parametrize(
    ("shape", "affine", "text"),
    [
        ((4, 2, 3), SPACING, r"it is (3, 2, 4), the image (2, 3, 4) (slices, H, W)"),
        (
            (4, 3, 2),
            moved(0, 0, 40),
            "it lies up to 40 mm off the image: it is shifted by (0, 0, 40) mm (to the right,",
        ),
        (
            (4, 3, 2),
            moved(0, 0, 0, sides=(1, 2, 2.5)),
            "up to 2.5 mm off the image: its spacing is (2.5, 2, 1), the image's (5, 2, 1) mm (slices, H, W)",
        ),
        ((4, 3, 2), moved(0, 0, 0, sides=(-1, 2, 5)), "up to 3 mm off the image: it is shifted by (-3, 0, 0) mm"),
        ((4, 3, 2), TURNED, "up to 0.5 mm off the image: it is turned or mirrored against it"),
    ],
)
def test_labels_that_do_not_lie_on_their_image_are_a_problem_in_mm(tmp_path, shape, affine, text):
    one = case(tmp_path)
    save(one.labels, np.zeros(shape, dtype=np.uint8), affine)
    (problem,) = index_volumes([one], tmp_path / "store", Cutting())[0]["problem"]
    assert problem.startswith(f"labels/scan.nii.gz does not lie on {tmp_path.name}/scan.nii.gz: it ")
    assert text in problem
    assert "set `resample_labels: true` under `slices`" in problem


def test_a_header_that_is_rounded_off_and_another_storage_order_do_not_matter(tmp_path):
    labels = (RAS > 200).astype(np.uint8)
    one = case(tmp_path, labels=labels)
    _, expected = index_volumes([one], tmp_path / "store", Cutting())
    save(one.labels, labels[::-1], moved(3.02, 0, 0, sides=(-1, 2, 5)))  # stored from right to left, 0.02 mm off
    images, annotations = index_volumes([one], tmp_path / "store", Cutting())
    assert images[["problem", "repaired"]].isna().all(axis=None)
    assert annotations.equals(expected)


def test_labels_on_a_finer_grid_are_resampled_by_setting_with_a_finding(tmp_path):
    fine = np.zeros((4, 3, 6), dtype=np.uint8)  # 2.5 mm instead of 5 mm; its voxels 0 and 2 are the image's 0 and 1
    fine[1, 2, 2] = 7  # in the image's upper slice, front row, second column
    fine[0, 0, 4:] = 9  # above the image
    one = case(tmp_path)
    save(one.labels, fine, moved(0, 0, 0, sides=(1, 2, 2.5)))
    images, annotations = index_volumes([one], tmp_path / "store", Cutting(resample_labels=True))
    assert annotations.fillna("").to_numpy().tolist() == [["scan_0000", "7", "2 1"], ["scan_0001", NO_CLASS, ""]]
    assert images["repaired"].fillna("").tolist() == [
        f"labels/scan.nii.gz was resampled to the grid of {tmp_path.name}/scan.nii.gz (nearest neighbour), as it is "
        "(6, 3, 4), the image (2, 3, 4) (slices, H, W); 0.01 of 0.015 cm3 of labels lie in the image",
        "",
    ]
    _, findings = merge_files(
        pivot_annotations(annotations.assign(row=range(2)), ["7"]),
        images,
        pd.DataFrame(),
        mask_format="rle",
    )
    assert findings[["rule", "action"]].to_numpy().tolist() == [["repaired_file", "repaired"]]


def test_labels_outside_their_image_are_a_problem_even_when_resampled(tmp_path):
    one = case(tmp_path, labels=np.ones(RAS.shape, dtype=np.uint8))
    save(one.labels, np.ones(RAS.shape, dtype=np.uint8), moved(0, 0, 400))
    (problem,) = index_volumes([one], tmp_path / "store", Cutting(resample_labels=True))[0]["problem"]
    assert "shifted by (0, 0, 400) mm" in problem
    assert problem.endswith("; no labelled voxel lies in the image, not even after resampling")


@pytest.mark.parametrize("values", [RAS * 0.01, np.where(RAS == 21, 2 * 0.99999, 0)])
def test_labels_stored_as_fractions_or_with_a_scale_are_their_whole_numbers(tmp_path, values):
    labels = np.rint(values)
    _, expected = index_volumes([case(tmp_path, labels=labels.astype(np.int16))], tmp_path / "store", Cutting())
    one = case(tmp_path / "b", labels=np.where(values == labels, labels, labels * 0.99999).astype(np.float32))
    _, annotations = index_volumes([one], tmp_path / "other", Cutting())
    assert annotations.equals(expected)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"axis": "z"}, "axis must be one of axial, coronal, sagittal, found 'z'"),
        ({"slope": 1}, "must both be given, the slope not 0, or neither; found 1 and None"),
        ({"slope": 0, "intercept": 0}, "found 0 and 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        Cutting(**settings)
