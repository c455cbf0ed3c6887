"""Volumes with labels as other tools write them: the plan that new-data makes."""

from __future__ import annotations

import json

import cv2
import nibabel
import numpy as np
import pytest

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.layouts import volumes
from seg_pipeline.new_data.scanning import scan

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


@pytest.mark.parametrize(("image", "label"), [("images/{}.nrrd", "labels/{}.nrrd"), ("{}.mha", "{}_seg.mha")])
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
