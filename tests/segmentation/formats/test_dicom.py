import nibabel
import numpy as np
import pytest

from seg_pipeline.segmentation.formats.dicom import is_dicom, mask_kind, mask_names
from seg_pipeline.segmentation.formats.volume_cases import find_cases
from seg_pipeline.segmentation.formats.volume_files import read_named_masks, read_volume
from seg_pipeline.segmentation.formats.volumes import Case, Cutting, index_volumes
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS

pydicom = pytest.importorskip("pydicom")

# By (column, row, slice): 6 x 5 x 3 voxels; the columns run to the left, the rows to the back, the slices to the head.
VALUES = np.fromfunction(lambda x, y, z: 100 * z + 10 * y + x, (6, 5, 3)).astype(np.int16)
AFFINE = np.array([[-1.0, 0, 0, 10], [0, -2, 0, 20], [0, 0, 5, 30], [0, 0, 0, 1]])
SERIES, STUDY, FRAME, CT, RTSTRUCT = (
    "1.2.3.4",
    "1.2.3",
    "1.2.3.5",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.481.3",
)


def dataset(kind, modality, number):
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one = pydicom.Dataset()
    one.file_meta = meta
    one.SOPClassUID = meta.MediaStorageSOPClassUID = kind
    one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = f"{SERIES}.{number}"
    one.Modality, one.SeriesInstanceUID, one.StudyInstanceUID, one.FrameOfReferenceUID = modality, SERIES, STUDY, FRAME
    one.PatientID, one.PatientName, one.StudyID = "p", "p^", "s"
    one.PatientBirthDate = one.PatientSex = one.StudyDate = one.StudyTime = one.AccessionNumber = ""
    return one


def slices(values=VALUES):
    """The slices of a CT in Hounsfield units, from foot to head."""
    found = []
    for number in range(values.shape[2]):
        one = dataset(CT, "CT", number + 1)
        one.Columns, one.Rows = values.shape[:2]
        one.ImageOrientationPatient, one.PixelSpacing = [1, 0, 0, 0, 1, 0], [2, 1]
        one.ImagePositionPatient, one.SliceThickness = [-10, -20, 30 + 5 * number], 5
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 1
        one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
        one.RescaleSlope, one.RescaleIntercept = 1, -1000
        one.PixelData = (values[..., number].T + 1000).astype(np.int16).tobytes()
        found.append(one)
    return found


def save(one, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    one.save_as(path, enforce_file_format=True)
    return path


def save_all(found, folder):
    for number, one in enumerate(found):  # names say nothing about the order
        save(one, folder / f"{(number * 7 + 3) % 11:02d}.dcm")
    return folder


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_a_series_is_the_volume_that_its_positions_say(tmp_path, axis):
    nibabel.save(nibabel.Nifti1Image(VALUES, AFFINE), tmp_path / "v.nii")
    expected = read_volume(tmp_path / "v.nii", axis=axis)
    volume = read_volume(save_all(slices(), tmp_path / "dicom"), axis=axis)
    np.testing.assert_array_equal(volume.values, expected.values)
    np.testing.assert_allclose(volume.affine, expected.affine)
    assert volume.spacing == expected.spacing


def test_each_slice_has_its_own_slope_and_intercept(tmp_path):
    found = slices()
    found[2].RescaleSlope, found[2].RescaleIntercept = 0.5, 3
    volume = read_volume(save_all(found, tmp_path / "dicom"))
    assert volume.values[0, 0, 5] == 0.5 * (1000 + 200) + 3  # the head's front left: column 0, row 0 from 1000 on
    assert volume.values[2, 0, 0] == 5  # the feet's front right end: column 5, row 0


def test_a_tilted_gantry_keeps_the_shift_between_slices(tmp_path):
    found = slices()
    for number, one in enumerate(found):
        one.ImagePositionPatient = [-10, -20 + number, 30 + 5 * number]
    volume = read_volume(save_all(found, tmp_path / "dicom"))
    front_left = volume.affine @ [0, 0, 5, 1]  # of the head: column 0, row 0, slice 2
    np.testing.assert_allclose(front_left[:3], [10, 18, 40])


def drop_one(found):
    return [*found[:1], *found[2:]]


def another_series(found):
    found[1].SeriesInstanceUID = "9.9"
    return found


def another_size(found):
    found[0].Columns, found[0].Rows = 5, 6
    return found


def again(found):
    found[1].ImagePositionPatient = found[0].ImagePositionPatient
    return found


def no_position(found):
    for one in found:
        del one.ImageOrientationPatient
    return found


def no_place(found):
    found[2].ImagePositionPatient = None
    return found


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (drop_one, "a gap between the slices at 30 and 40 mm, where the others are 5 mm apart; add the missing files"),
        (another_series, r"not one series: SeriesInstanceUID is 1\.2\.3\.4 \(3 files\) and 9\.9 \(1 files\)"),
        (another_size, r"not one series: Rows is 5 \(3 files\) and 6 \(1 files\)"),
        (again, r"several of its slices share a position \(times or echoes\); give each its own folder"),
        (no_position, "4 of its 4 files have no ImageOrientationPatient, so they are no slices"),
        (no_place, "1 of its 4 files have no ImagePositionPatient, so they are no slices"),
    ],
)
def test_what_is_not_one_whole_series_says_why(tmp_path, change, text):
    found = change(slices(np.concatenate([VALUES, VALUES[..., :1]], axis=2)))
    with pytest.raises(ValueError, match=text):
        read_volume(save_all(found, tmp_path / "dicom"))


def test_a_damaged_file_is_named(tmp_path):
    folder = save_all(slices(), tmp_path / "dicom")
    path = folder / "03.dcm"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="its pixels cannot be decoded"):
        read_volume(folder)
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"03\.dcm: not a DICOM file, or truncated or damaged"):
        read_volume(folder)
    with pytest.raises(ValueError, match=r"03\.dcm: not a DICOM file, or truncated or damaged"):
        mask_kind(path)
    (tmp_path / "named_otherwise").write_bytes((folder / "10.dcm").read_bytes())
    assert is_dicom(tmp_path / "named_otherwise")
    assert not is_dicom(tmp_path / "gone")


def test_a_radiograph_is_a_flat_image_and_black_is_0(tmp_path):
    (one,) = slices(VALUES[..., :1])
    for name in ("ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept"):
        delattr(one, name)
    one.PhotometricInterpretation, one.BitsStored, one.HighBit, one.Modality = "MONOCHROME1", 12, 11, "CR"
    one.PixelRepresentation = 0
    volume = read_volume(save(one, tmp_path / "x.dcm"))
    assert (volume.values.shape, volume.spacing) == ((1, 5, 6), ())
    assert volume.values[0, 0].tolist() == [4095 - 1000 - column for column in range(6)]


def test_hounsfield_units_do_not_depend_on_how_they_are_shown(tmp_path):
    found = slices()
    for one in found:
        one.PhotometricInterpretation = "MONOCHROME1"
    volume = read_volume(save_all(found, tmp_path / "dicom"))
    assert volume.values[0, 0, 5] == 200  # the head's front left: column 0, row 0 of the last slice


@pytest.mark.parametrize(("shown", "expected"), [("MONOCHROME2", [7, 21, 35]), ("MONOCHROME1", [248, 234, 220])])
def test_a_table_gives_the_values_of_a_radiograph(tmp_path, shown, expected):
    (one,) = slices(VALUES[:3, :1, :1] - 1000)  # stored: 0, 1, 2
    for name in ("ImageOrientationPatient", "ImagePositionPatient", "RescaleSlope", "RescaleIntercept"):
        delattr(one, name)
    one.Modality, one.PhotometricInterpretation, one.PixelRepresentation = "CR", shown, 0
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType, table.LUTData = [3, 0, 8], "US", [7, 21, 35]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    one.ModalityLUTSequence = [table]
    assert read_volume(save(one, tmp_path / "x.dcm")).values.ravel().tolist() == expected


PATTERNS = {
    "images": {"glob": "*/CT/*.dcm", "pattern": "(?P<series>[^/]+)/CT/.*"},
    "labels": {"glob": "*/labels.*", "pattern": "(?P<series>[^/]+)/labels.*"},
}


def table(cases, store, cutting=None):
    images, annotations = index_volumes(cases, store, cutting or Cutting("axial", 1, -1024))
    assert images["problem"].isna().all(), images["problem"].tolist()
    return images, annotations.fillna("").sort_values(["image_id", "class"]).to_numpy().tolist()


def test_a_series_with_nifti_labels_becomes_slices_and_rows(tmp_path):
    save_all(slices(), tmp_path / "p1/CT")
    labels = np.zeros(VALUES.shape, dtype=np.uint8)
    labels[4, 1, 2] = 1  # column 4 and row 1 of the head's slice
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), tmp_path / "p1/labels.nii.gz")
    cases = find_cases(tmp_path, **PATTERNS)
    assert [(one.name, one.images) for one in cases] == [("p1", (tmp_path / "p1/CT",))]
    images, rows = table(cases, tmp_path / "store")
    assert images[["spacing_z", "spacing_y", "spacing_x"]].drop_duplicates().to_numpy().tolist() == [[5, 2, 1]]
    # Rows run from left to right, DICOM's columns to the left: column 4 is the second pixel of a row.
    assert read_image(images["path"][0])[1].tolist() == [1024 + 200 + 10 + column for column in range(5, -1, -1)]
    assert rows == [["p1_0000", "1", f"{6 + 2} 1"], ["p1_0001", NO_CLASS, ""], ["p1_0002", NO_CLASS, ""]]


def contours(*regions):
    """An RTSTRUCT of regions: name and contours, each a z and (x, y) in mm to the left and back."""
    one = dataset(RTSTRUCT, "RTSTRUCT", 99)
    one.StructureSetROISequence, one.ROIContourSequence = [], []
    for number, (name, outlines) in enumerate(regions, start=1):
        named, drawn = pydicom.Dataset(), pydicom.Dataset()
        named.ROINumber = drawn.ReferencedROINumber = number
        named.ROIName = name
        drawn.ContourSequence = []
        for z, points in outlines:
            contour = pydicom.Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [float(value) for x, y in points for value in (x, y, z)]
            drawn.ContourSequence.append(contour)
        one.StructureSetROISequence.append(named)
        one.ROIContourSequence.append(drawn)
    return one


def box(left, top, right, bottom):
    """In mm, around the pixels of these columns and rows, the last ones included: pixels of 1 x 2 mm from -10, -20."""
    x, y = (-10 + left - 0.5, -10 + right + 0.5), (-20 + 2 * top - 1, -20 + 2 * bottom + 1)
    return [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]


def test_contours_are_filled_on_their_slices_by_name_and_may_overlap(tmp_path):
    save_all(slices(), tmp_path / "p1/CT")
    structures = contours(
        ("ring", [(40, box(0, 0, 3, 2)), (40, box(1, 1, 2, 1))]),  # the inner contour is a hole
        ("liver", [(40, box(0, 0, 1, 0)), (35, box(5, 4, 5, 4))]),
    )
    labels = save(structures, tmp_path / "p1/labels.dcm")
    _, rows = table([Case("p1", (tmp_path / "p1/CT",), labels)], tmp_path / "store")
    # Rows of 6 pixels from left to right; DICOM's column 0 is the patient's right, so it comes last.
    assert rows == [
        ["p1_0000", "liver", "5 2"],
        ["p1_0000", "ring", "3 4 9 1 12 1 15 4"],
        ["p1_0001", "liver", "25 1"],
        ["p1_0002", NO_CLASS, ""],
    ]


def test_a_repeated_contour_is_no_hole_and_points_enclose_nothing(tmp_path):
    folder = save_all(slices(), tmp_path / "CT")
    structures = contours(("liver", [(40, box(0, 0, 1, 0))] * 2), ("marker", [(40, box(0, 0, 1, 0))]))
    structures.ROIContourSequence[0].ContourSequence[1].ContourGeometricType = "CLOSEDPLANAR_XOR"
    structures.ROIContourSequence[1].ContourSequence[0].ContourGeometricType = "POINT"
    labels = save(structures, tmp_path / "s.dcm")
    _, rows = table([Case("p1", (folder,), labels)], tmp_path / "store")
    assert rows == [["p1_0000", "liver", "5 2"], ["p1_0001", NO_CLASS, ""], ["p1_0002", NO_CLASS, ""]]


@pytest.mark.parametrize("of_region", [True, False])
def test_structures_of_another_scan_are_refused(tmp_path, of_region):
    folder = save_all(slices(), tmp_path / "CT")
    structures = contours(("liver", [(40, box(0, 0, 1, 0))]))
    if of_region:
        structures.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "7.7"
    else:
        structures.FrameOfReferenceUID = "7.7"
    labels = save(structures, tmp_path / "s.dcm")
    images, _ = index_volumes([Case("p1", (folder,), labels)], tmp_path / "store", Cutting())
    assert f"drawn in the frame of reference 7.7, the image CT is in {FRAME}: it belongs to" in images["problem"][0]


@pytest.mark.parametrize(
    ("z", "text"),
    [
        (37.5, "a contour of liver: it lies at slice 1.50 of 0 to 2, expected it on a slice"),
        (50, "at slice 4.00 of 0 to 2"),
    ],
)
def test_a_contour_between_slices_or_outside_is_named(tmp_path, z, text):
    folder = save_all(slices(), tmp_path / "CT")
    labels = save(contours(("liver", [(z, box(0, 0, 1, 1))])), tmp_path / "s.dcm")
    images, _ = index_volumes([Case("p1", (folder,), labels)], tmp_path / "store", Cutting())
    assert text in images["problem"][0]


def test_segments_are_masks_by_their_label(tmp_path):
    highdicom = pytest.importorskip("highdicom")
    found = slices()
    folder = save_all(found, tmp_path / "CT")
    code = pydicom.sr.codedict.codes.SCT
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=code.Organ,
            segmented_property_type=code.Liver,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(("liver", "cyst"), start=1)
    ]
    masks = np.zeros((3, 5, 6, 2), dtype=np.uint8)  # slice, row, column, segment
    masks[2, 1, 4] = 1, 1  # they overlap
    masks[1, 0, 0, 1] = 1
    segments = highdicom.seg.Segmentation(
        source_images=found,
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=described,
        series_instance_uid="1.2.9",
        series_number=2,
        sop_instance_uid="1.2.9.1",
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    )
    labels = save(segments, tmp_path / "seg.dcm")
    _, rows = table([Case("p1", (folder,), labels)], tmp_path / "store")
    assert rows == [
        ["p1_0000", "cyst", "8 1"],
        ["p1_0000", "liver", "8 1"],
        ["p1_0001", "cyst", "6 1"],
        ["p1_0002", NO_CLASS, ""],
    ]


def test_labels_cut_out_of_the_images_grid_are_put_back_in_their_place(tmp_path):
    folder = save_all(slices(), tmp_path / "CT")
    part = np.ones((2, 1, 1), dtype=np.uint8)  # columns 3 and 4, row 2, slice 1
    affine = AFFINE.copy()
    affine[:3, 3] = (AFFINE @ [3, 2, 1, 1])[:3]
    nibabel.save(nibabel.Nifti1Image(part, affine), tmp_path / "part.nii.gz")
    images, rows = table([Case("p1", (folder,), tmp_path / "part.nii.gz")], tmp_path / "store")
    assert images["repaired"].isna().all()
    assert rows == [["p1_0000", NO_CLASS, ""], ["p1_0001", "1", "14 2"], ["p1_0002", NO_CLASS, ""]]


def test_a_multi_frame_file_is_the_volume_of_its_frames(tmp_path):
    highdicom = pytest.importorskip("highdicom")
    found = slices()
    for one in found:
        one.ImageType, one.ContentDate, one.ContentTime = ["ORIGINAL", "PRIMARY", "AXIAL"], "20260101", "120000"
        one.AcquisitionNumber = one.InstanceNumber = one.SeriesNumber = 1
        one.PositionReferenceIndicator = one.Laterality = one.PatientPosition = ""
    expected = read_volume(save_all(found, tmp_path / "slices"))
    frames = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=found,
        series_instance_uid="1.2.8",
        series_number=2,
        sop_instance_uid="1.2.8.1",
        instance_number=1,
    )
    volume = read_volume(save(frames, tmp_path / "frames.dcm"))
    np.testing.assert_array_equal(volume.values, expected.values)
    np.testing.assert_allclose(volume.affine, expected.affine)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.ROIContourSequence[0].__delattr__("ReferencedROINumber"),
        lambda one: one.StructureSetROISequence[0].__delattr__("ROIName"),
        lambda one: one.ROIContourSequence[0].ContourSequence[0].__delattr__("ContourGeometricType"),
        lambda one: setattr(one.ROIContourSequence[0], "ReferencedROINumber", 7),
    ],
)
def test_contours_that_lack_a_value_are_damage(tmp_path, change):
    """pydicom raises AttributeError and KeyError, only when a value is used."""
    save_all(slices(), tmp_path / "CT")
    one = contours(("liver", [(40, box(0, 0, 1, 0))]))
    change(one)
    save(one, tmp_path / "rt.dcm")
    with pytest.raises(ValueError, match=r"rt\.dcm: not a DICOM file, or truncated or damaged: "):
        list(read_named_masks(tmp_path / "rt.dcm", tmp_path / "CT", axis="axial") or ())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"CS\x02\x00CT", b"Cs\x02\x00CT"),  # an unknown kind of value: NotImplementedError
        (b"US\x02\x00\x10\x00", b"UL\x03\x00\x10\x00"),  # three bytes of a four-byte number
    ],
)
def test_a_slice_with_damaged_values_is_named(tmp_path, old, new):
    (tmp_path / "a.dcm").write_bytes(save(slices()[0], tmp_path / "sound.dcm").read_bytes().replace(old, new, 1))
    with pytest.raises(ValueError, match=r"a\.dcm: "):
        read_volume(tmp_path / "a.dcm")


def test_segments_that_are_missing_are_damage(tmp_path):
    save(dataset("1.2.840.10008.5.1.4.1.1.66.4", "SEG", 1), tmp_path / "seg.dcm")
    with pytest.raises(ValueError, match=r"seg\.dcm: not a DICOM file, or truncated or damaged: .*SegmentSequence"):
        mask_names(tmp_path / "seg.dcm")
