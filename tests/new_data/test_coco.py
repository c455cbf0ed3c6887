"""COCO files as tools write them: the plan that new-data makes, and the images that it finds."""

import json

import cv2
import numpy as np
import pytest

from seg_pipeline.datasets.coco import CocoDataset
from seg_pipeline.datasets.file_index import FileIndexDataset
from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.layouts import coco
from seg_pipeline.new_data.plan import RAW
from seg_pipeline.new_data.scanning import scan
from seg_pipeline.new_data.splits import with_splits

SQUARE = [[1, 1, 5, 1, 5, 4, 1, 4]]  # 4 wide, 3 high


def draw(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / file), np.full((6, 8), len(file), dtype=np.uint8))


def write(root, file, names, *, size=(6, 8)):
    images = [{"id": key, "file_name": name, "height": size[0], "width": size[1]} for key, name in enumerate(names)]
    annotations = [{"id": 1, "image_id": key, "category_id": 1, "segmentation": SQUARE} for key in range(len(names))]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(content))


def loaded(root, entry):
    """The table of a catalog entry."""
    kinds = {"CocoDataset": CocoDataset, "FileIndexDataset": FileIndexDataset}
    settings = {key: value for key, value in entry.items() if key != "type"}
    settings["filepath"] = settings["filepath"].replace(RAW, str(root))
    return kinds[entry["type"].rsplit(".", 1)[-1]](**settings).load()


def plan_of(root, **answers):
    """The plan, what was said, and the image ids of the table and of the files."""
    ask = Asker(answers, interactive=False)
    contents = scan(root)
    plan = coco.read(contents, coco.by_split(contents.jsons)[0], ask)
    rows, files = (loaded(root, plan.catalog[name]) for name in ("raw_metadata", "image_files"))
    return plan, " ".join(ask.decisions), sorted(rows["image_id"]), sorted(files["image_id"])


@pytest.mark.parametrize(
    ("names", "json_file", "ids"),
    [
        ([r"images\p1.png", r"images\p2.png"], "result.json", ["images/p1", "images/p2"]),
        (["../images/p1.png", "../images/p2.png"], "labels/all.json", ["p1", "p2"]),
        (["images/p%31.png", "images/p2.png"], "labels/all.json", ["images/p1", "images/p2"]),
        (["/home/x/images/p1.png", "/home/x/images/p2.png"], "all.json", ["p1", "p2"]),
    ],
)
def test_names_of_another_tool_or_computer_are_those_of_the_files(tmp_path, capsys, names, json_file, ids):
    draw(tmp_path, "images/p1.png", "images/p2.png")
    write(tmp_path, json_file, names)
    _, told, of_rows, of_files = plan_of(tmp_path)
    assert of_rows == of_files == ids
    assert ("2 file names are paths of another computer" in told) == names[0].startswith("/")


def test_a_missing_first_image_is_told_and_the_others_are_used(tmp_path, capsys):
    draw(tmp_path, "images/p2.png", "images/p3.png")
    write(tmp_path, "all.json", ["p1.png", "p2.png", "p3.png"])
    plan, told, of_rows, of_files = plan_of(tmp_path)
    assert "images without a file: 1, such as p1; left out, with a finding" in told
    assert (of_rows, of_files) == (["p1", "p2", "p3"], ["p2", "p3"])
    assert len(plan.pictures) == 2


def test_an_invalid_annotation_is_told_with_its_setting(tmp_path, capsys):
    draw(tmp_path, "p1.png", "p2.png")
    write(tmp_path, "all.json", ["p1.png", "p2.png"])
    content = json.loads((tmp_path / "all.json").read_text())
    content["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    (tmp_path / "all.json").write_text(json.dumps(content))
    _, told, _, _ = plan_of(tmp_path)
    assert "unusable annotations or images: 1, such as: annotation 1 of p1 (cat): a polygon must have at least" in told
    assert "`invalid_annotations: drop_annotation`" in told


@pytest.mark.parametrize(
    ("folders", "files"),
    [
        (("train2017", "val2017"), ("annotations/instances_train2017.json", "annotations/instances_val2017.json")),
        (("train", "valid"), ("train/_annotations.coco.json", "valid/_annotations.coco.json")),
        (("images", "images"), ("train.json", "val.json")),
    ],
)
def test_a_file_per_split_gives_one_data_set_with_its_splits(tmp_path, capsys, folders, files):
    names = ["case1_01.png", "case1_02.png", "case2_01.png"], ["case3_01.png"]
    for folder, file, listed in zip(folders, files, names, strict=True):
        draw(tmp_path, *(f"{folder}/{name}" for name in listed))
        write(tmp_path, file, listed)
    plan, _, of_rows, of_files = plan_of(tmp_path, group="1")
    expected = [f"{folders[0]}/case1_01", f"{folders[0]}/case1_02", f"{folders[0]}/case2_01", f"{folders[1]}/case3_01"]
    assert of_rows == of_files == expected
    splits = loaded(tmp_path, plan.catalog["predefined_splits"])
    assert dict(splits.to_numpy().tolist()) == dict(zip(expected, ["train"] * 3 + ["val"], strict=True))
    assert plan.split == {"method": "table", "shares": {"train": 0.75, "val": 0.25, "test": 0}}
    groups = loaded(tmp_path, plan.catalog["image_files"])["group"]
    assert sorted(groups) == ["case1", "case1", "case2", "case3"]  # not the folder of the split


@pytest.mark.parametrize(
    ("answers", "kept", "told"),
    [
        ({}, False, "drawn, with whole groups; not used: that of the annotation files (3 train, 3 val); it divides 3"),
        ({"splits": "given"}, True, "it divides 3 groups, such as anna, which would leak"),
        ({"group": "none"}, True, "splits: that of the annotation files (3 train, 3 val)"),
    ],
)
def test_a_split_by_files_that_divides_groups_is_not_kept_unless_asked(tmp_path, capsys, answers, kept, told):
    for split in ("train", "val"):
        listed = [f"{name}_{split}.png" for name in ("anna", "ben", "carl")]
        draw(tmp_path, *(f"images/{name}" for name in listed))
        write(tmp_path, f"annotations/{split}.json", listed)
    plan, _, of_rows, of_files = plan_of(tmp_path, **answers)
    ask = Asker(answers, interactive=False)
    plan = with_splits(plan, scan(tmp_path), {}, ask)
    assert told in " ".join(ask.decisions)
    groups = loaded(tmp_path, plan.catalog["image_files"]).get("group")
    assert groups is None if kept else sorted(groups) == ["anna", "anna", "ben", "ben", "carl", "carl"]
    assert ("predefined_splits" in plan.catalog, plan.split.get("method") == "table") == (kept, kept)
    assert of_rows == of_files


def test_equal_names_in_two_splits_are_different_images(tmp_path, capsys):
    for split in ("train", "val"):
        draw(tmp_path, f"{split}/0001.png")
        write(tmp_path, f"annotations/{split}.json", ["0001.png"])
    assert plan_of(tmp_path)[2:] == (["train/0001", "val/0001"], ["train/0001", "val/0001"])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["instances_train.json", "instances_val.json", "persons_train.json", "persons_val.json"], 2),
        (["training/a.json", "validation/a.json", "testing/a.json"], 1),
        (["constraint.json", "values.json"], 2),  # no words for splits
        (["train/a.json"], 1),
        (["a_train.json", "a_test.json"], 2),  # without val: not a split to train with
    ],
)
def test_files_are_one_data_set_if_only_the_split_differs(files, expected):
    found = coco.by_split(files)
    assert len(found) == expected
    assert sorted(file for one in found for file in one.values()) == sorted(files)


def test_swapped_sizes_are_named_and_not_a_class_error(tmp_path, capsys):
    draw(tmp_path, "p1.png", "p2.png")
    write(tmp_path, "all.json", ["p1.png", "p2.png"], size=(8, 6))
    with pytest.raises(
        ValueError, match=r"for 8 x 6 .*, the image is 6 x 8: height and width are swapped in the JSON file"
    ):
        plan_of(tmp_path)
