import gzip

import nibabel
import numpy as np
import pytest

from seg_pipeline.segmentation.formats.volume_files import read_volume, whole_labels

# By (right, front, head): 4 x 3 x 2 voxels of 1, 2 and 5 mm; a voxel's value is 100 x + 10 y + z.
RAS = np.fromfunction(lambda x, y, z: 100 * x + 10 * y + z, (4, 3, 2)).astype(np.int16)
SPACING = np.diag([1.0, 2.0, 5.0, 1.0])


def save(path, values=RAS, affine=SPACING):
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


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
    for path in (flipped, turned):
        volume = read_volume(path, axis=axis)
        np.testing.assert_array_equal(volume.values, straight.values)
        assert volume.spacing == straight.spacing


def test_the_place_of_a_voxel_is_known_in_mm(tmp_path):
    affine = SPACING.copy()
    affine[:3, 3] = 10, 20, 30
    path = save(tmp_path / "v.nii", affine=affine)
    for axis, index in (("axial", (1, 2, 3)), ("coronal", (2, 1, 3)), ("sagittal", (3, 1, 2))):
        volume = read_volume(path, axis=axis)
        assert volume.values[index] == 300  # the right, back, foot end: x = 3, y = 0, z = 0
        np.testing.assert_allclose(volume.affine @ [*index, 1], [13, 20, 30, 1])


def test_a_flat_volume_is_one_slice(tmp_path):
    volume = read_volume(save(tmp_path / "v.nii", RAS[..., 1]))
    assert volume.values.tolist() == [[[21, 121, 221, 321], [11, 111, 211, 311], [1, 101, 201, 301]]]


def test_a_header_without_extent_is_named(tmp_path):
    path = save(tmp_path / "v.nii", affine=np.diag([1.0, 2.0, 5.0, 1.0]))
    content = bytearray(path.read_bytes())
    content[280:328] = bytes(48)  # srow_x to srow_z
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"v\.nii: its header gives voxels no extent in some direction"):
        read_volume(path)


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


def test_a_header_whose_place_is_no_number_is_named(tmp_path):
    path = save(tmp_path / "v.nii", affine=np.diag([1.0, 2.0, 5.0, 1.0]))
    content = bytearray(path.read_bytes())
    content[280:284] = np.float32(np.nan).tobytes()  # srow_x
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"v\.nii: its header places voxels at NaN or infinity; correct its affine"):
        read_volume(path)


def test_a_huge_header_is_refused_before_its_voxels_are_read(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((2000, 2000, 2000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(header.binaryblock + b"\0" * 4))
    with pytest.raises(ValueError, match=r"2000 x 2000 x 2000 voxels are more than the 2,000,000,000 decoded"):
        read_volume(tmp_path / "v.nii.gz")


@pytest.mark.parametrize(("units", "scale"), [("micron", 0.001), ("meter", 1000), ("mm", 1), ("unknown", 1)])
def test_places_and_distances_are_in_mm_whatever_unit_the_header_states(tmp_path, units, scale):
    image = nibabel.Nifti1Image(RAS, np.diag([1.0, 2.0, 5.0, 1.0]))
    image.header.set_xyzt_units(units)
    nibabel.save(image, tmp_path / "v.nii")
    assert read_volume(tmp_path / "v.nii").spacing == pytest.approx((5 * scale, 2 * scale, scale))


@pytest.mark.parametrize(("name", "wrong"), [("v.nii", "v.nii.gz"), ("v.nii.gz", "v.nii")])
def test_a_file_whose_name_says_wrongly_whether_it_is_compressed_says_so(tmp_path, name, wrong):
    save(tmp_path / name).rename(tmp_path / wrong)
    told = "it is (not )?compressed by gzip, but is (not )?named so; let its name end in "
    with pytest.raises(ValueError, match=f"{wrong}: {told}{name[1:]}"):
        read_volume(tmp_path / wrong)


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
    ("values", "expected"),
    [
        (np.array([0.0, 0.99999, 1.99998]), [0, 1, 2]),
        (np.array([200.0, 100.0]) * 0.01, [2, 1]),
        (np.array([-1, 0, 65535]), [-1, 0, 65535]),
        (np.array([False, True]), [0, 1]),
    ],
)
def test_labels_close_to_a_whole_number_are_that_number(values, expected):
    assert whole_labels(values).tolist() == expected


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0, 0.6, 1.0, 1.3], r"found 0\.6 and other fractions in 2 voxels: they were interpolated"),
        ([0, np.nan], "1 labels are NaN or infinite"),
        ([0, 70000], "labels must be from -65535 to 65535, found 0 to 70000"),
    ],
)
def test_labels_that_are_no_labels_say_why(values, text):
    with pytest.raises(ValueError, match=text):
        whole_labels(np.array(values))


@pytest.mark.parametrize("name", ["v.nrrd", "v.mha"])
@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_nrrd_and_metaimage_are_read_as_nifti_is(tmp_path, name, axis):
    simpleitk = pytest.importorskip("SimpleITK")
    affine = np.array([[0, 2, 0, 10], [-1, 0, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]])  # stored from front, to the right
    expected = read_volume(save(tmp_path / "v.nii", RAS, affine), axis=axis)
    image = simpleitk.GetImageFromArray(RAS.T)  # z, y, x
    image.SetSpacing((1.0, 2.0, 5.0))
    image.SetOrigin((-10.0, -20.0, 30.0))  # to the left, back and head
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    simpleitk.WriteImage(image, str(tmp_path / name))
    volume = read_volume(tmp_path / name, axis=axis)
    np.testing.assert_array_equal(volume.values, expected.values)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-6)
    assert volume.spacing == pytest.approx(expected.spacing)


@pytest.mark.parametrize(("units", "scale"), [("um", 0.001), ("\u00b5m", 0.001), ("m", 1000), ("mm", 1), ("", 1)])
def test_nrrd_in_another_unit_is_read_in_mm(tmp_path, units, scale):
    simpleitk = pytest.importorskip("SimpleITK")
    simpleitk.WriteImage(simpleitk.GetImageFromArray(RAS.T), str(tmp_path / "v.nrrd"))
    line = b"space units: " + b" ".join([f'"{units}"'.encode()] * 3)
    volume = read_volume(damaged(tmp_path / "v.nrrd", b"encoding:", line + b"\nencoding:"))
    assert volume.spacing == pytest.approx((scale, scale, scale))


@pytest.mark.parametrize(("units", "told"), [(b'"mm" "mm" "um"', "mm, um"), (b'"parsec" "parsec" "parsec"', "parsec")])
def test_nrrd_in_an_unknown_unit_or_several_is_refused(tmp_path, units, told):
    simpleitk = pytest.importorskip("SimpleITK")
    simpleitk.WriteImage(simpleitk.GetImageFromArray(RAS.T), str(tmp_path / "v.nrrd"))
    path = damaged(tmp_path / "v.nrrd", b"encoding:", b"space units: " + units + b"\nencoding:")
    with pytest.raises(ValueError, match=f"its space units are {told}, expected one for all axes, such as mm"):
        read_volume(path)


def test_nrrd_that_is_flat_has_channels_or_is_damaged(tmp_path):
    simpleitk = pytest.importorskip("SimpleITK")
    simpleitk.WriteImage(simpleitk.GetImageFromArray(RAS[..., 0].T), str(tmp_path / "flat.nrrd"))
    assert read_volume(tmp_path / "flat.nrrd").values.shape == (1, 3, 4)
    simpleitk.WriteImage(simpleitk.GetImageFromArray(RAS, isVector=True), str(tmp_path / "parts.nrrd"))
    with pytest.raises(
        ValueError, match=r"parts\.nrrd: holds 2 values per voxel, expected one; write one file per value"
    ):
        read_volume(tmp_path / "parts.nrrd")
    (tmp_path / "cut.nrrd").write_bytes((tmp_path / "flat.nrrd").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"cut\.nrrd: not a NRRD or MetaImage file, or truncated or damaged"):
        read_volume(tmp_path / "cut.nrrd")


def damaged(path, old, new):
    """The file with one text in its header replaced; it must be there."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("name", "old", "new", "text"),
    [
        ("v.mha", b"NDims = 3", b"NDims = 256", "its sizes or directions"),  # ITK writes beyond its memory
        ("v.mha", b"NDims = 3", b"NDims = 3\nNDims = 99", "its sizes or directions"),
        ("v.mha", b"TransformMatrix = 1 0", b"TransformMatrix = 1 1e308", "its sizes or directions"),  # never ends
        ("v.mha", b"ElementSpacing = 1", b"ElementSpacing = nan", "its sizes or directions"),
        ("v.mha", b"LOCAL", b"/etc/passwd", "its voxels are in a file elsewhere; put header and voxels into one file"),
        ("v.nrrd", b"space directions: (1,0", b"space directions: (1,1e308", "its sizes or directions"),
        ("v.nrrd", b"encoding:", b"data file: /etc/passwd\nencoding:", "its voxels are in a file elsewhere"),
        ("v.nrrd", b"sizes: 4 3 2", b"sizes: 4 3 9999999", "voxels cannot be in so small a file; it is damaged"),
    ],
)
def test_headers_that_itk_must_not_see(tmp_path, name, old, new, text):
    simpleitk = pytest.importorskip("SimpleITK")
    simpleitk.WriteImage(simpleitk.GetImageFromArray(RAS.T), str(tmp_path / name))
    assert read_volume(tmp_path / name).values.shape == (2, 3, 4)
    with pytest.raises(ValueError, match=rf"{name}: .*{text}"):
        read_volume(damaged(tmp_path / name, old, new))


def test_a_nifti_file_that_claims_more_than_it_can_hold_is_damaged(tmp_path):
    content = bytearray(save(tmp_path / "v.nii").read_bytes())
    content[42:48] = np.array([30_000, 30_000, 2], dtype="<i2").tobytes()  # 1.8 billion voxels in 400 bytes
    (tmp_path / "v.nii").write_bytes(content)
    with pytest.raises(ValueError, match=r"v\.nii: 30000 x 30000 x 2 voxels cannot be in so small a file"):
        read_volume(tmp_path / "v.nii")
    zeros = save(tmp_path / "zeros.nii.gz", np.zeros((300, 300, 20), np.uint8))  # deflate's best, and sound
    assert read_volume(zeros).values.shape == (20, 300, 300)
