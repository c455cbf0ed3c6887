import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.formats.volume_cases import class_labels, find_cases, name_classes, read_nnunet
from seg_pipeline.segmentation.formats.volumes import Cutting, index_volumes
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS

IMAGES = {"glob": "images/*", "pattern": r"images/(?P<series>(?P<group>p\d)_.)\.nii"}
LABELS = {"glob": "labels/*", "pattern": r"labels/(?P<series>.+)\.nii"}


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def nnunet(root, labels=None, channels=("CT",), ending=".nii.gz", **more):
    content = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels or {"background": 0, "liver": 1},
        "file_ending": ending,
        **more,
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def test_equal_names_are_one_case_and_all_other_files_are_problems(tmp_path):
    touch(tmp_path, "images/p1_a.nii", "images/p2_a.nii", "images/note.txt", "labels/p1_a.nii", "labels/p3_a.nii")
    cases = find_cases(tmp_path, images=IMAGES, labels=LABELS)
    assert {one.name: one.problem for one in cases} == {
        "p1_a": None,
        "p2_a": "the case p2_a has no label file: it is not annotated",
        "p3_a": "the case p3_a has no image",
        "images/note.txt": "the file name does not match the pattern",
    }
    assert (cases[0].group, cases[0].images, cases[0].labels) == (
        "p1",
        (tmp_path / "images/p1_a.nii",),
        tmp_path / "labels/p1_a.nii",
    )


def test_a_pattern_without_a_name_is_refused(tmp_path):
    touch(tmp_path, "images/p1_a.nii", "labels/p1_a.nii")
    with pytest.raises(ValueError, match="the pattern of `labels` needs a group named series"):
        find_cases(tmp_path, images=IMAGES, labels={"glob": "labels/*", "pattern": ".*"})


def test_two_label_files_of_one_case_are_refused(tmp_path):
    touch(tmp_path, "images/p1_a.nii", "labels/p1_a.nii", "labels/p1_a.nii.gz")
    with pytest.raises(ValueError, match="several label files belong to the case p1_a"):
        find_cases(tmp_path, images=IMAGES, labels={"glob": "labels/*", "pattern": r"labels/(?P<series>[^.]+)\..*"})


def test_a_file_that_is_image_and_label_is_refused(tmp_path):
    (tmp_path / "seg-1.nii").touch()
    every = {"glob": "*.nii", "pattern": r"(?P<series>.+)\.nii"}
    with pytest.raises(
        ValueError, match=r"seg-1\.nii: the patterns of `images` and `labels` both match it; correct them"
    ):
        find_cases(tmp_path, images=every, labels=every)


def test_nnunets_cases_channels_and_names(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    root = touch(
        nnunet(tmp_path / "raw", labels, ("T1", "T2", "FLAIR")),
        *(f"imagesTr/case_1_{channel:04d}.nii.gz" for channel in range(3)),
        *("imagesTr/case_2_0000.nii.gz", "labelsTr/case_1.nii.gz", "labelsTr/case_2.nii.gz"),
    )
    cases, names = read_nnunet(root)
    assert names == {"whole": [1, 2], "core": [2], "ignore": [3]}
    assert [path.name for path in cases[0].images] == [f"case_1_{channel:04d}.nii.gz" for channel in range(3)]
    assert cases[1].problem == "the case case_2 has the channels [0], not all of [0, 1, 2]"
    chosen, _ = read_nnunet(root, channels=[0], names=r"(?P<group>case)_\d")
    assert [len(one.images) for one in chosen] == [1, 1]
    assert chosen[0].group == "case"


def test_two_channels_must_be_chosen_from(tmp_path):
    root = touch(nnunet(tmp_path, None, ("T1", "T2")), "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(ValueError, match=r"an image needs one or three of them: choose them with `channels`"):
        read_nnunet(root)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, r"dataset\.json: no such file; nnU-Net's raw layout needs it"),
        ("{", "not valid JSON"),
        ('{"modality": {}}', r"lacks \['channel_names', 'labels', 'file_ending'\]; nnU-Net's version 1 layout must"),
    ],
)
def test_what_is_not_nnunets_is_refused(tmp_path, content, text):
    if content:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(ValueError, match=text):
        read_nnunet(tmp_path)


@pytest.mark.parametrize("value", [None, float("inf"), 1.5, "one", [1, None], []])
def test_a_label_of_another_kind_is_named(tmp_path, value):
    nnunet(tmp_path, {"background": 0, "liver": value})
    with pytest.raises(ValueError, match=r"dataset\.json: the label 'liver' is .*, expected a whole number or a list"):
        read_nnunet(tmp_path)


def test_flat_pictures_keep_their_bits_and_colours(tmp_path):
    colours = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    root = nnunet(tmp_path / "raw", None, ("R", "G", "B"), ".png")
    for name, image in (
        ("imagesTr/a_0000.png", colours[..., ::-1]),
        ("labelsTr/a.png", np.array([[0, 1, 1], [0, 0, 0]], dtype=np.uint8)),
    ):
        (root / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(root / name), image)
    cases, names = read_nnunet(root)
    images, annotations = index_volumes(cases, tmp_path / "store", Cutting())
    assert images[["image_id", "group"]].to_numpy().tolist() == [["a", "a"]]
    np.testing.assert_array_equal(read_image(images["path"][0]), colours)
    assert read_image(images["path"][0]).dtype == np.uint8
    assert name_classes(annotations, names).to_numpy().tolist() == [["a", "liver", "2 2"]]


def test_a_value_of_several_regions_is_a_row_of_each_and_an_unnamed_one_stays():
    table = pd.DataFrame({"image_id": ["a"] * 3, "class": ["1", "2", "9"], "mask": ["1 1", "2 1", "3 1"]})
    named = name_classes(table, {"whole": [1, 2], "core": [2]})
    assert named[["class", "mask"]].to_numpy().tolist() == [
        *(["whole", "1 1"], ["whole", "2 1"], ["core", "2 1"], ["9", "3 1"]),
    ]


def test_the_background_is_no_class():
    assert class_labels({"background": 0, "a": 1, "b": [2, 3]}) == {"a": [1], "b": [2, 3]}


def test_labels_of_which_none_is_declared_name_the_setting():
    table = pd.DataFrame({"image_id": ["a", "b"], "class": ["255", NO_CLASS], "mask": ["1 1", None]})
    reason = (
        "the labels hold the values 255, but the classes are vessel: 1; set `values` in the catalog, such as "
        "`values: {vessel: 255}`"
    )
    with pytest.raises(ValueError, match=re.escape(reason)):
        name_classes(table, {"vessel": [1]})
    assert name_classes(table, {"vessel": [255]})["class"].tolist() == ["vessel", NO_CLASS]


def test_a_class_of_any_value_has_the_objects_that_the_labels_number():
    labels = class_labels({"cell": "any", "debris": 2})
    table = pd.DataFrame({"image_id": ["a"] * 4, "class": ["1", "2", "17", "-1"], "mask": ["1 1", "2 1", "3 1", "4 1"]})
    assert name_classes(table, labels)["class"].tolist() == ["cell", "debris", "cell", "-1"]
