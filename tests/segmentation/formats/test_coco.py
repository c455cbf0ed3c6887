from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from seg_pipeline.segmentation.formats.coco import decode_segmentation, expand_counts, read_coco
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS, clean_annotations

MASK = np.array([[0, 1, 1], [0, 1, 0]], dtype=bool)  # 2 by 3; down columns: 2 off, 3 on, 1 off
COUNTS = {"size": [2, 3], "counts": [2, 3, 1]}


def annotation(key, image, category=1, segmentation=COUNTS, **more):
    return {"id": key, "image_id": image, "category_id": category, "iscrowd": 0, "segmentation": segmentation, **more}


@pytest.fixture
def coco(tmp_path):
    """Writes a data set with these annotations: images 1 (a/i1.png) and 2 (i2.png), 2 x 3; classes cat and dog."""
    (tmp_path / "images/a").mkdir(parents=True)
    for name in ("a/i1.png", "i2.png"):
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((2, 3), dtype=np.uint8))

    def write(*annotations, size=(2, 3)):
        images = [{"id": 1, "file_name": "a/i1.png"}, {"id": 2, "file_name": "i2.png"}]
        content = {
            "images": [{**one, "height": size[0], "width": size[1]} for one in images],
            "annotations": list(annotations),
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        (tmp_path / "instances.json").write_text(json.dumps(content))
        return tmp_path / "instances.json", tmp_path / "images"

    return write


def test_counts_by_hand_go_down_columns():
    np.testing.assert_array_equal(decode_segmentation(COUNTS, (2, 3)), MASK)


@pytest.mark.parametrize("shape", [(2, 3), (31, 17), (200, 300)])
def test_compressed_counts_are_those_of_pycocotools(shape):
    from pycocotools import mask as reference

    mask = np.random.default_rng(3).random(shape) > 0.6
    mask[: shape[0] // 2] = True  # long runs take several characters
    compressed = reference.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    decoded = decode_segmentation({"size": list(shape), "counts": compressed}, shape)
    np.testing.assert_array_equal(decoded, mask)


def test_a_full_mask_starts_with_no_pixels_off():
    assert decode_segmentation({"size": [2, 3], "counts": [0, 6]}, (2, 3)).all()


def test_polygons_are_filled_and_joined():
    left, right = [0, 0, 2, 0, 2, 3, 0, 3], [4, 0, 5, 0, 5, 3, 4, 3]  # x y x y ...
    mask = decode_segmentation([left, right], (3, 5))
    np.testing.assert_array_equal(mask, [[1, 1, 0, 0, 1]] * 3)


@pytest.mark.parametrize(
    ("segmentation", "text"),
    [
        ([], "has no segmentation; boxes and key points are not masks"),
        (None, "has no segmentation"),
        ([[0, 0, 1, 1]], "at least 3 points of x and y, found 4 numbers"),
        ([[0, 0, 1, 1, 2, 2, 3]], "at least 3 points of x and y, found 7 numbers"),
        ([0, 0, 1, 1, 2, 2], "a polygon must be a list of numbers"),
        ([[0, 0, 1, 1, "2", 2]], "a polygon must be a list of numbers"),
        ([[0, 0, 1, float("nan"), 2, 2]], "lies far outside its image of 2 x 3"),
        ([[0, 0, 1, 1e9, 2, 2]], "lies far outside its image of 2 x 3"),
        ("abc", "must be a list of polygons or have `size` and `counts`"),
        ({"size": [3, 2], "counts": [6]}, r"run lengths are for \[3, 2\] \(height, width\), its image is \[2, 3\]"),
        ({"size": [2, 3], "counts": [5]}, "add up to the image's 6 pixels"),
        ({"size": [2, 3], "counts": [8, -2]}, "add up to the image's 6 pixels"),
        ({"size": [2, 3], "counts": [2.0, 4]}, "must be whole numbers"),
        ({"size": [2, 3], "counts": ""}, "add up to the image's 6 pixels"),
        ({"size": [2, 3], "counts": "1"}, "add up to the image's 6 pixels"),
        ({"size": [2, 3], "counts": "ÿ"}, "characters that COCO does not use"),
        ({"size": [2, 3], "counts": "o" * 12}, "characters that COCO does not use"),
        ({"size": [2, 3], "counts": "P"}, "end in the middle of a number"),
    ],
)
def test_what_is_no_mask_says_why(segmentation, text):
    with pytest.raises(ValueError, match=text):
        decode_segmentation(segmentation, (2, 3))


def test_an_image_without_a_size_is_named():
    with pytest.raises(ValueError, match="its image has no height and width, found None x 3"):
        decode_segmentation(COUNTS, (None, 3))


def test_counts_from_the_fourth_on_are_differences():
    assert expand_counts("231") == [2, 3, 1]
    assert expand_counts("2312") == [2, 3, 1, 5]  # 3 + 2
    assert expand_counts("231O") == [2, 3, 1, 2]  # 3 - 1


def test_each_annotation_is_a_row_and_so_is_an_image_without_any(coco):
    table = read_coco(*coco(annotation(7, 1), annotation(9, 1, 2)))
    assert table[["image_id", "class", "annotation"]].to_numpy().tolist() == [
        ["a/i1", "cat", "7"],
        ["a/i1", "dog", "9"],
        ["i2", NO_CLASS, pytest.approx(np.nan, nan_ok=True)],
    ]
    assert table["mask"].tolist()[:2] == ["2 2 5 1"] * 2  # along rows, from 1
    assert table["problem"].isna().all()


def test_a_crowd_is_of_its_class_or_apart(coco):
    files = coco(annotation(1, 1, iscrowd=1), annotation(2, 2))
    assert read_coco(*files)["class"].tolist() == ["cat", "cat"]
    assert read_coco(*files, crowd="apart")["class"].tolist() == ["crowd", "cat"]


def test_what_cannot_be_used_takes_its_image_along_and_is_a_finding(coco):
    table = read_coco(*coco(annotation(1, 1), annotation(2, 1, segmentation=[]), annotation(3, 99), annotation(4, 2)))
    kept, findings = clean_annotations(
        table,
        mask_format="rle",
        columns={"image_id": "image_id", "class": "class", "mask": "mask"},
        class_values={"cat": "cat"},
        multiple_masks="instances",
    )
    assert kept["image_id"].tolist() == ["i2"]
    assert findings[["rule", "reason"]].to_numpy().tolist() == [
        ["incomplete_annotation", "another annotation of this image cannot be used, so its masks are incomplete"],
        ["unusable_annotation", "annotation 2 (cat): it has no segmentation; boxes and key points are not masks"],
        ["unusable_annotation", "annotation 3 is of image 99, which is not listed"],
    ]


def test_an_unknown_category_is_named(coco):
    assert read_coco(*coco(annotation(4, 2, 5)))["problem"].tolist()[0] == (
        "annotation 4 has the category 5, which is not listed"
    )


def test_an_image_of_another_size_than_its_annotations_are_for_is_a_problem(coco):
    table = read_coco(*coco(annotation(1, 1, segmentation={"size": [3, 2], "counts": [6]}), size=(3, 2)))
    problems = table.dropna(subset="problem")
    assert problems["image_id"].tolist() == ["a/i1", "i2"]
    assert problems["problem"].tolist()[0] == "its annotations are for 3 x 2 (height x width), the image is 2 x 3"


def test_a_missing_image_is_left_to_the_chain(coco):
    path, images = coco(annotation(1, 2))
    (images / "i2.png").unlink()
    assert read_coco(path, images)["problem"].isna().all()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "not valid JSON: "),
        ("[]", "expected a list `images` whose entries have file_name, id"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "expected a list `images`"),
        (
            '{"images": [], "annotations": [{}], "categories": []}',
            "expected a list `annotations` whose entries have id",
        ),
        (
            '{"images": [], "annotations": [{"id": 3}, {"id": 3}], "categories": []}',
            "the id 3 occurs twice in `annotations`",
        ),
    ],
)
def test_what_is_no_annotation_file_is_refused(tmp_path, content, text):
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"instances\.json: {text}"):
        read_coco(path, tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.json: no such file"):
        read_coco(tmp_path / "gone.json", tmp_path)
