from __future__ import annotations

import gzip
import time

import nibabel
import numpy as np
import pytest

from seg_pipeline.segmentation.formats.volumes import (
    Case,
    Cutting,
    fit_uint16,
    index_volumes,
    label_rows,
    read_volume,
    to_uint16,
)
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS

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


def test_slices_go_from_head_to_feet_rows_from_front_to_back_columns_from_left_to_right(tmp_path):
    volume = read_volume(save(tmp_path / "v.nii.gz"))
    assert volume.values.shape == (2, 3, 4)
    np.testing.assert_array_equal(volume.values[0, 0], [21, 121, 221, 321])  # head, front
    np.testing.assert_array_equal(volume.values[1, 2], [0, 100, 200, 300])  # feet, back
    assert volume.spacing == (5.0, 2.0, 1.0)


def test_other_axes(tmp_path):
    path = save(tmp_path / "v.nii.gz")
    coronal, sagittal = (read_volume(path, axis=axis) for axis in ("coronal", "sagittal"))
    assert (coronal.values.shape, coronal.spacing) == ((3, 2, 4), (2.0, 5.0, 1.0))
    np.testing.assert_array_equal(coronal.values[0, 0], [21, 121, 221, 321])  # front, head
    assert (sagittal.values.shape, sagittal.spacing) == ((4, 2, 3), (1.0, 5.0, 2.0))
    np.testing.assert_array_equal(sagittal.values[0, 0], [21, 11, 1])  # left, head: from front to back


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_the_stored_orientation_does_not_matter(tmp_path, axis):
    straight = read_volume(save(tmp_path / "ras.nii.gz"), axis=axis)
    flipped = save(tmp_path / "lps.nii", RAS[::-1, ::-1], np.diag([-1.0, -2.0, 5.0, 1.0]))
    turned = save(tmp_path / "sra.nii", RAS.transpose(2, 0, 1), SPACING[:, [2, 0, 1, 3]])
    for path, directions in ((flipped, "LPS"), (turned, "SRA")):
        volume = read_volume(path, axis=axis)
        np.testing.assert_array_equal(volume.values, straight.values)
        assert volume.spacing == straight.spacing
        assert volume.directions == directions


def test_a_scaled_file_gives_its_own_values(tmp_path):
    image = nibabel.Nifti1Image(RAS, SPACING)
    image.header.set_slope_inter(0.5, -100)
    nibabel.save(image, tmp_path / "v.nii.gz")
    stored = nibabel.load(tmp_path / "v.nii.gz").get_fdata()
    np.testing.assert_allclose(read_volume(tmp_path / "v.nii.gz").values[1, 2], stored[:, 0, 0])


def test_a_fourth_dimension_of_one_is_no_matter_but_time_is(tmp_path):
    assert read_volume(save(tmp_path / "one.nii", RAS[..., None])).values.shape == (2, 3, 4)
    path = save(tmp_path / "many.nii", np.stack([RAS, RAS], axis=-1))
    with pytest.raises(ValueError, match=r"its shape is \(4, 3, 2, 2\), expected 3 dimensions; split time or channels"):
        read_volume(path)


def test_a_huge_header_is_refused_before_its_voxels_are_read(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((2000, 2000, 2000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(header.binaryblock + b"\0" * 4))
    with pytest.raises(ValueError, match=r"2000 x 2000 x 2000 voxels are more than the 2,000,000,000 decoded"):
        read_volume(tmp_path / "v.nii.gz")


@pytest.mark.parametrize("content", [b"", b"hello", "half"])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = save(tmp_path / "v.nii.gz", np.random.default_rng(0).integers(0, 999, (30, 30, 30)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:9000] if content == "half" else content)
    with pytest.raises(ValueError, match=r"v\.nii\.gz: not a NIfTI file, or truncated or damaged"):
        read_volume(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.nii: no such file"):
        read_volume(tmp_path / "gone.nii")


def test_colour_voxels_are_refused(tmp_path):
    values = np.zeros((2, 2, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ValueError, match=r"its voxels are .*, expected numbers"):
        read_volume(save(tmp_path / "v.nii", values))


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


def test_labels_must_be_whole():
    with pytest.raises(ValueError, match=r"labels must be whole numbers from 0 to 65535, found 0 to 0\.5"):
        label_rows(np.array([[[0, 0.5]]]), ["a"])


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


def test_a_cut_that_was_broken_off_leaves_nothing(tmp_path):
    broken = case(tmp_path, labels=np.full(RAS.shape, 0.5))
    images, annotations = index_volumes([broken], tmp_path / "store", Cutting())
    assert images["problem"].tolist() == ["labels must be whole numbers from 0 to 65535, found 0.5 to 0.5"]
    assert annotations.empty
    assert not list((tmp_path / "store").rglob("*.png"))


def test_one_bad_case_does_not_stop_the_others(tmp_path):
    bad = Case("bad", (tmp_path / "gone.nii.gz",), tmp_path / "gone.nii.gz")
    images, _ = index_volumes([bad, case(tmp_path)], tmp_path / "store", Cutting(), num_workers=2)
    assert images["image_id"].fillna("").tolist() == ["", "scan_0000", "scan_0001"]
    assert "gone.nii.gz" in images["problem"][0]


@pytest.mark.parametrize(
    ("labels", "affine", "text"),
    [
        (np.zeros((4, 2, 3)), SPACING, r"scan.nii.gz is \(3, 2, 4\), scan.nii.gz \(2, 3, 4\) \(slices, H, W\)"),
        (np.zeros((4, 3, 2)), np.diag([-1.0, 2, 5, 1]), "the axes of scan.nii.gz point LAS, those of scan.nii.gz RAS"),
    ],
)
def test_labels_that_do_not_lie_on_their_image_are_a_problem(tmp_path, labels, affine, text):
    one = case(tmp_path)
    save(one.labels, labels.astype(np.uint8), affine)
    images, _ = index_volumes([one], tmp_path / "store", Cutting())
    assert images["problem"].str.contains(text).tolist() == [True]


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
