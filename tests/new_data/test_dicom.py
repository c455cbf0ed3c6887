"""DICOM series with labels: the plan that new-data makes."""

import shutil

import nibabel
import numpy as np
import pytest

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.layouts import dicom
from seg_pipeline.new_data.scanning import scan
from seg_pipeline.segmentation.formats.dicom import read_dicom

pydicom = pytest.importorskip("pydicom")
SERIES = np.fromfunction(lambda z, y, x: 100 * z + 10 * y + x - 900, (3, 5, 6)).astype(np.int16)


def save(path, modality, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    one = pydicom.Dataset()
    one.file_meta = pydicom.dataset.FileMetaDataset()
    one.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = "1.2.3"
    one.Modality = modality
    for name, value in more.items():
        setattr(one, name, value)
    one.save_as(path, enforce_file_format=True)


def draw(root, folder, file="{}.dcm"):
    for number, pixels in enumerate(SERIES):
        save(
            root / folder / file.format(number),
            "CT",
            SeriesInstanceUID="1.2",
            Rows=5,
            Columns=6,
            BitsAllocated=16,
            BitsStored=16,
            HighBit=15,
            PixelRepresentation=1,
            SamplesPerPixel=1,
            PhotometricInterpretation="MONOCHROME2",
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, number],
            PixelSpacing=[1, 1],
            PixelData=pixels.tobytes(),
        )


def structures(root, file, name):
    region = pydicom.Dataset()
    region.ROINumber, region.ROIName = 1, name
    save(root / file, "RTSTRUCT", StructureSetROISequence=[region])


def plan_of(root):
    ask = Asker({}, interactive=False)
    contents = scan(root)
    return dicom.read(contents, dicom.list_dicom(contents), {}, ask), " ".join(ask.decisions)


def test_a_folder_of_slices_and_one_of_structures_are_a_case(tmp_path, capsys):
    for case, name in (("anna", "liver"), ("ben", "spleen")):
        draw(tmp_path, f"{case}/CT")
        structures(tmp_path, f"{case}/RT/{case[::-1]}.dcm", name)
    plan, told = plan_of(tmp_path)
    assert plan.classes.values == {"liver": "liver", "spleen": "spleen"}
    assert plan.classes.task == "multilabel"
    assert "CT, kept as Hounsfield units + 1024" in told
    assert plan.cases == [[tmp_path / f"{one}/CT", tmp_path / f"{one}/RT/{one[::-1]}.dcm"] for one in ("anna", "ben")]
    entry = plan.catalog["image_files"]
    assert (entry["images"]["glob"], entry["labels"]["glob"]) == ("*/CT/*.dcm", "*/RT/*.dcm")


def test_labels_may_be_other_volumes(tmp_path, capsys):
    for case in ("anna", "ben"):
        draw(tmp_path, f"scans/{case}")
        (tmp_path / "labels").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.ones((6, 5, 3), np.uint8), np.eye(4)), tmp_path / f"labels/{case}.nii.gz")
    plan, _ = plan_of(tmp_path)
    assert plan.classes.values == {"label_1": 1}
    assert [case[0].name for case in plan.cases] == ["anna", "ben"]


def test_why_dicom_files_are_no_data_set(tmp_path, capsys):
    draw(tmp_path, "anna/CT")
    assert plan_of(tmp_path)[0] == ("3 DICOM files, but no labels: neither RTSTRUCT nor DICOM SEG nor another volume")
    draw(tmp_path, "")
    structures(tmp_path, "anna/RT/s.dcm", "liver")
    assert plan_of(tmp_path)[0] == "each DICOM series needs its own folder"


def test_of_volumes_beside_series_those_named_as_labels_are_labels(tmp_path, capsys):
    for case in ("anna", "ben"):
        draw(tmp_path, f"{case}/CT")
        for name in ("converted", "liver_mask"):
            nibabel.save(nibabel.Nifti1Image(np.ones((6, 5, 3), np.uint8), np.eye(4)), tmp_path / f"{case}/{name}.nii")
    plan, _ = plan_of(tmp_path)
    assert [[path.name for path in case] for case in plan.cases] == [["CT", "liver_mask.nii"]] * 2


def test_several_series_of_a_case_are_named(tmp_path, capsys):
    for case in ("anna", "ben"):
        for series in ("T1", "T2"):
            draw(tmp_path, f"{case}/{series}")
        nibabel.save(nibabel.Nifti1Image(np.ones((6, 5, 3), np.uint8), np.eye(4)), tmp_path / f"{case}/label.nii")
    assert plan_of(tmp_path)[0] == (
        "each case needs one series and one label, but there are 4 series, such as anna/T1, anna/T2, and 2 labels, "
        "such as anna/label.nii, ben/label.nii"
    )


@pytest.mark.parametrize(("image", "label"), [("IM{:04}", "RS.1.2.840.{}"), ("1.2.840.{}", "{}.dcm"), ("{}.IMA", "{}")])
def test_dicom_files_need_no_ending(tmp_path, capsys, image, label):
    """As archives and CDs name them, with an index beside the slices."""
    for case, name in (("anna", "liver"), ("ben", "spleen")):
        draw(tmp_path, f"{case}/CT", image)
        structures(tmp_path, f"{case}/RT/{label.format(case[::-1])}", name)
        shutil.copy(tmp_path / f"{case}/CT/{image.format(0)}", tmp_path / f"{case}/CT/DICOMDIR")
    plan, _ = plan_of(tmp_path)
    assert plan.classes.values == {"liver": "liver", "spleen": "spleen"}
    assert [[path.relative_to(tmp_path).as_posix() for path in case] for case in plan.cases] == [
        [f"{one}/CT", f"{one}/RT/{label.format(one[::-1])}"] for one in ("anna", "ben")
    ]
    values, _ = read_dicom(plan.cases[0][0])
    np.testing.assert_array_equal(values.T, SERIES)


def test_labels_without_an_ending_in_one_folder_are_named(tmp_path, capsys):
    for case in ("anna", "ben"):
        draw(tmp_path, f"{case}/CT", "IM{}")
        structures(tmp_path, f"RT/{case}", "liver")
    assert (
        plan_of(tmp_path)[0] == "RT/anna and other labels share a folder without an ending; let their names end in .dcm"
    )
