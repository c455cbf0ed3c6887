"""Volumes with labels as other tools write them: the plan that new-data makes."""

import json
import re

import cv2
import nibabel
import numpy as np
import pytest

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.checking import _some_cases
from seg_pipeline.new_data.command import num_images
from seg_pipeline.new_data.fitting import Facts
from seg_pipeline.new_data.layouts import volumes
from seg_pipeline.new_data.scanning import scan
from seg_pipeline.new_data.splits import with_splits
from seg_pipeline.segmentation.formats.volume_cases import find_cases
from seg_pipeline.segmentation.formats.volumes import Case, Cutting, index_volumes
from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS

LABELS = np.zeros((4, 3, 2), dtype=np.int16)
LABELS[0, 0, 0], LABELS[1, 2, 1] = 1, 2


def write(root, labels, *, folders=("images", "labels"), names=("p0", "p1", "p2")):
    for folder, values in zip(folders, (LABELS * 100, labels), strict=True):
        (root / folder).mkdir(parents=True)
        for name in names:
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), root / folder / f"{name}.nii.gz")


def plan_of(root, **answers):
    ask, contents = Asker(answers, interactive=False), scan(root)
    path = root / "dataset.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    if "channel_names" in content:
        plan = volumes.read_nnunet_raw(contents, path.name, ask)
    else:
        plan = volumes.read_nifti(contents, volumes.decathlon_names(content), ask)
    return plan, " ".join(ask.decisions)


@pytest.mark.parametrize(
    ("labels", "values", "ignore"),
    [
        ((LABELS * 0.99999).astype(np.float32), [1, 2], []),
        (np.where(LABELS == 2, -1, LABELS), [1], [-1]),
        (LABELS[..., None], [1, 2], []),
    ],
)
def test_label_values_are_whole_numbers_and_negative_ones_unknown(tmp_path, capsys, labels, values, ignore):
    write(tmp_path, labels)
    plan, _ = plan_of(tmp_path)
    assert (list(plan.classes.values.values()), plan.classes.ignore) == (values, ignore)


def test_interpolated_labels_are_named(tmp_path, capsys):
    write(tmp_path, LABELS * 0.6)
    with pytest.raises(
        ValueError, match=r"none of the 3 sampled labels can be used, such as p0.nii.gz: .* found 1\.2 and"
    ):
        plan_of(tmp_path)


def test_the_decathlons_dataset_json_names_the_classes(tmp_path, capsys):
    write(tmp_path, LABELS, folders=("imagesTr", "labelsTr"))
    (tmp_path / "imagesTs").mkdir()
    nibabel.save(nibabel.Nifti1Image(LABELS, np.eye(4)), tmp_path / "imagesTs" / "p3.nii.gz")
    content = {"labels": {"0": "background", "1": "spleen", "2": "other"}, "training": []}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    plan, _ = plan_of(tmp_path)
    assert plan.classes.values == {"spleen": 1, "other": 2}
    assert len(plan.cases) == 3


@pytest.mark.parametrize(
    ("names", "split"),
    [(("p0", "p1", "p2"), {}), (("p0", "p1"), {"shares": {"train": 0.7, "val": 0.3, "test": 0.0}})],
)
def test_two_patients_have_no_test_split(tmp_path, capsys, names, split):
    write(tmp_path, LABELS, names=names)
    plan, _ = plan_of(tmp_path)
    ask = Asker({}, interactive=False)
    assert with_splits(plan, scan(tmp_path), {}, ask).split == split
    assert ask.decisions == ["splits: two groups give train and val, and no test split"] * (len(names) == 2)


@pytest.mark.parametrize("nnunet", [False, True])
def test_the_trial_takes_the_smallest_case_of_three_patients(tmp_path, capsys, nnunet):
    names = [f"patient{patient}_frame{frame:02d}" for patient in (1, 2, 3, 4) for frame in (1, 9)]
    write(tmp_path, LABELS, folders=("imagesTr", "labelsTr"), names=names)
    for name in names:
        path = tmp_path / "imagesTr" / f"{name}.nii.gz"
        path.write_bytes(path.read_bytes() + bytes(100 * int(name[7]) + int(name[-1])))
        if nnunet:
            path.rename(path.with_name(f"{name}_0000.nii.gz"))
    if nnunet:
        content = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}
        (tmp_path / "dataset.json").write_text(json.dumps(content))
    plan, _ = plan_of(tmp_path)
    _some_cases(plan, tmp_path / "trial")
    linked = sorted(path.name for path in (tmp_path / "trial").rglob("*frame*") if path.parent.name == "labelsTr")
    assert linked == [f"patient{patient}_frame01.nii.gz" for patient in (1, 2, 3)]
    facts = Facts({}, None, 0, 0, groups=3, colour=False)
    assert num_images(plan, facts, listed=7) == 19  # slices of 8 cases, with 7 in three of them


@pytest.mark.parametrize(("declared", "values"), [({"vessel": 1}, {"vessel": 255}), ({"vessel": 255}, None)])
def test_nnunets_black_and_white_labels_are_mapped(tmp_path, capsys, declared, values):
    for folder, end in (("imagesTr", "_0000"), ("labelsTr", "")):
        (tmp_path / folder).mkdir()
        for number in range(3):
            image = np.zeros((6, 8), dtype=np.uint8)
            image[1:3, 2:6] = 255
            cv2.imwrite(str(tmp_path / folder / f"V_{number}{end}.png"), image)
    content = {"channel_names": {"0": "grey"}, "labels": {"background": 0, **declared}, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    plan, told = plan_of(tmp_path)
    assert plan.catalog["raw_metadata"].get("values") == values
    assert ("labels hold 255, dataset.json says [1]: read as vessel (`values` in the catalog)" in told) == bool(values)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/{}.nrrd", "labels/{}.nrrd"),
        ("{}.mha", "{}_seg.mha"),
        ("{}/ct.mhd", "{}/ct_label.mhd"),
        ("{}.nhdr", "{}_mask.nhdr"),
    ],
)
def test_nrrd_and_metaimage_are_found(tmp_path, capsys, image, label):
    simpleitk = pytest.importorskip("SimpleITK")
    for name in ("anna", "ben"):
        for file, values in ((image, LABELS * 100), (label, LABELS)):
            path = tmp_path / file.format(name)
            path.parent.mkdir(exist_ok=True)
            simpleitk.WriteImage(simpleitk.GetImageFromArray(values.T), str(path))
    plan, _ = plan_of(tmp_path)
    assert plan.classes.values == {"label_1": 1, "label_2": 2}
    assert len(plan.cases) == 2


def save_all(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(LABELS, np.eye(4)), root / name)


def test_names_that_differ_at_their_start_are_told_apart(tmp_path, capsys):  # as in LiTS
    save_all(tmp_path, [f"{start}-{number}.nii" for start in ("volume", "segmentation") for number in (9, 10, 11)])
    plan, _ = plan_of(tmp_path)
    assert [[path.name for path in case] for case in plan.cases] == [
        [f"volume-{number}.nii", f"segmentation-{number}.nii"] for number in (10, 11, 9)
    ]


def test_images_whose_own_names_hold_a_word_for_masks_are_images(tmp_path, capsys):
    save_all(tmp_path, [f"{folder}/seg_{number}.nii.gz" for folder in ("images", "labels") for number in (1, 2)])
    plan, _ = plan_of(tmp_path)
    assert [[path.parent.name for path in case] for case in plan.cases] == [["images", "labels"]] * 2


def test_intensities_are_no_labels(tmp_path, capsys):
    write(tmp_path, np.arange(1331, dtype=np.int16).reshape(11, 11, 11))
    with pytest.raises(ValueError, match=r"p0\.nii\.gz: the sampled volumes hold 1330 values: intensities, or numbers"):
        plan_of(tmp_path)


@pytest.mark.parametrize(
    ("image", "label", "told"),
    [
        ("P{p}/scan{s}.nii", "P{p}/scan{s}_seg.nii", "groups: 3, by the cases' names"),
        ("P{p}/s{s}/ct.nii", "P{p}/s{s}/label.nii", "groups: 3, by the cases' names"),
        ("images/P{p}/vol{n}.nii", "labels/vol{n}.nii", "groups: 3, by the folders of the cases, such as P1"),
        ("P{p}/volume-{n}.nii", "P{p}/segmentation-{n}.nii", "groups: 3, by the folders of the cases, such as P1"),
        ("site{s}/v{n}.nii", "site{s}/v{n}_seg.nii", "groups: each of the 6 cases is one"),
    ],
)
def test_scans_of_a_patient_are_one_group(tmp_path, capsys, image, label, told):
    numbers = [{"p": patient, "s": scan, "n": 2 * patient + scan} for patient in (1, 2, 3) for scan in (0, 1)]
    save_all(tmp_path, [one.format(**each) for one in (image, label) for each in numbers])
    plan, said = plan_of(tmp_path, group=None)
    assert told in said
    entry = plan.catalog["image_files"]
    found = find_cases(tmp_path, images=entry["images"], labels=entry["labels"])
    assert [case.problem for case in found] == [None] * 6
    if "3" in told:
        assert [case.group for case in found] == ["P1", "P1", "P2", "P2", "P3", "P3"]


def test_endings_may_be_in_upper_case(tmp_path, capsys):
    save_all(tmp_path, [f"{folder}/p{number}.NII.GZ" for folder in ("IMAGES", "LABELS") for number in (1, 2)])
    plan, _ = plan_of(tmp_path)
    assert [[path.name for path in case] for case in plan.cases] == [["p1.NII.GZ"] * 2, ["p2.NII.GZ"] * 2]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            [f"p{case}/p{case}_{kind}.nii.gz" for case in (1, 2) for kind in ("t1", "t2", "seg")],  # as in BraTS
            r"found 4 images, such as p1/p1_t1\.nii\.gz, p1/p1_t2\.nii\.gz, and 2 labels, such as "
            r"p1/p1_seg\.nii\.gz, p2/p2_seg\.nii\.gz\. Several images of a case can be the channels of nnU-Net's",
        ),
        (
            ["p1_t1.nii.gz", "p2_t1.nii.gz"],
            r"the names of the 2 volumes, such as p1_t1\.nii\.gz, do not tell images from",
        ),
        (["p1_label.nii.gz", "p2_label.nii.gz"], r"the names of the 2 volumes, such as p1_label\.nii\.gz, do not tell"),
    ],
)
def test_volumes_that_are_no_pairs_say_why(tmp_path, capsys, names, told):
    save_all(tmp_path, names)
    reason, _ = plan_of(tmp_path)
    assert re.search(told, reason)


SEGMENTS = """NRRD0004
type: unsigned char
dimension: 4
space: left-posterior-superior
sizes: 2 2 3 1
space directions: none (1,0,0) (0,1,0) (0,0,1)
kinds: list domain domain domain
encoding: raw
space origin: (1,0,1)
Segment0_LabelValue:=1
Segment0_Layer:=0
Segment0_Name:=Leber
Segment1_LabelValue:=1
Segment1_Layer:=1
Segment1_Name:=Gefäß
Segment10_LabelValue:=3
Segment10_Layer:=0
Segment10_Name:=Milz

"""


@pytest.mark.parametrize(("image", "label"), [("{}.nrrd", "{}.seg.nrrd"), ("{}/CT.nrrd", "{}/Segmentation.seg.nrrd")])
def test_segments_of_slicer_have_their_names(tmp_path, capsys, image, label):
    """They may overlap, on layers, and cover a part of the image: here 2 x 3 x 1 voxels from (1, 0, 1) on."""
    simpleitk = pytest.importorskip("SimpleITK")
    parts = np.zeros((1, 3, 2, 2), dtype=np.uint8)  # z, y, x, layer
    parts[0, 1, 0], parts[0, 2, 1, 0] = 1, 3
    for name in ("anna", "ben"):
        path = tmp_path / image.format(name)
        path.parent.mkdir(exist_ok=True)
        simpleitk.WriteImage(simpleitk.GetImageFromArray((LABELS * 100).T), str(path))
        (tmp_path / label.format(name)).write_bytes(SEGMENTS.encode() + parts.tobytes())
    plan, _ = plan_of(tmp_path)
    assert plan.classes.values == {name: name for name in ("Gefäß", "Leber", "Milz")}
    assert plan.classes.task == "multilabel"
    cases = [Case(one[0].stem, (one[0],), one[1]) for one in plan.cases]
    found = index_volumes(cases, tmp_path / "slices", Cutting())[1]
    rows = found[found["class"] != NO_CLASS]
    # the second of two slices is the upper one; rows go from the front to the back, columns from the left to the right
    assert set(rows["image_id"]) == {f"{case.name}_0000" for case in cases}
    masks = {one["class"]: np.argwhere(decode_rle(one["mask"], (3, 4), order="C")).tolist()
             for one in rows.head(3).to_dict("records")}  # fmt: skip
    assert masks == {"Leber": [[1, 2]], "Gefäß": [[1, 2]], "Milz": [[2, 1]]}


@pytest.mark.parametrize(
    ("answers", "classes", "values"),
    [
        ({}, {"object": "object"}, {"object": "any"}),
        ({"labels": "classes"}, {f"label_{one}": one for one in range(1, 8)}, None),
    ],
)
def test_labels_that_number_objects_are_one_class_unless_told_otherwise(tmp_path, capsys, answers, classes, values):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for number, name in enumerate(("anna", "ben", "cara"), start=5):
            labels = np.zeros((20, 5, 4), dtype=np.uint8)
            for one in range(number):
                labels[2 * one, 1:3, 1:3] = one + 1
            nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / folder / f"{name}.nii.gz")
    plan, _ = plan_of(tmp_path, **answers)
    assert plan.classes.values == classes
    assert plan.catalog["raw_metadata"].get("values") == values
    assert plan.annotations.get("multiple_masks") == ("instances" if values else None)
