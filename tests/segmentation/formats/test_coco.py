import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from seg_pipeline.segmentation.formats.coco import list_images, read_coco
from seg_pipeline.segmentation.formats.coco_masks import decode_segmentation, expand_counts
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

    def write(*annotations, size=(2, 3), names=("a/i1.png", "i2.png"), ids=(1, 2)):
        images = [{"id": key, "file_name": name} for key, name in zip(ids, names, strict=True)]
        sized = {} if size is None else {"height": size[0], "width": size[1]}
        content = {
            "images": [{**one, **sized} for one in images],
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
    with pytest.raises(ValueError, match="its image has no height and width, and no file to take them from"):
        decode_segmentation(COUNTS, None)


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


def clean(table):
    return clean_annotations(
        table,
        mask_format="rle",
        columns={"image_id": "image_id", "class": "class", "mask": "mask"},
        class_values={"cat": "cat"},
        multiple_masks="instances",
    )


INVALID = "annotation 2 of a/i1 (cat): it has no segmentation; boxes and key points are not masks"
UNLISTED = "annotation 3 is of image 99, which is not listed"


def test_what_cannot_be_used_takes_its_image_along_and_is_a_finding(coco):
    table = read_coco(*coco(annotation(1, 1), annotation(2, 1, segmentation=[]), annotation(3, 99), annotation(4, 2)))
    kept, findings = clean(table)
    assert kept["image_id"].tolist() == ["i2"]
    assert findings[["rule", "reason"]].to_numpy().tolist() == [
        ["incomplete_annotation", "another annotation of this image cannot be used, so its masks are incomplete"],
        ["unusable_annotation", INVALID],
        ["unusable_annotation", UNLISTED],
    ]


@pytest.mark.parametrize("segmentation", [[], [[0, 0, 1, 1]]])
def test_an_annotation_without_a_mask_is_left_out_alone_by_setting(coco, segmentation):
    files = coco(annotation(1, 1), annotation(2, 1, segmentation=segmentation), annotation(3, 2, segmentation=[]))
    kept, findings = clean(read_coco(*files, invalid_annotations="drop_annotation"))
    assert kept[["image_id", "class", "mask"]].to_numpy().tolist() == [["a/i1", "cat", "2 2 5 1"], ["i2", NO_CLASS, ""]]
    assert findings[["row", "rule"]].to_numpy().tolist() == [[3, "unusable_annotation"], [4, "unusable_annotation"]]
    assert findings["image_id"].isna().all()  # the image stays


def test_an_unknown_category_is_named(coco):
    table = read_coco(*coco(annotation(4, 2, 5), annotation(5, 1)))
    assert table["problem"].tolist()[0] == "annotation 4 of i2 has the category 5, which is not listed"


def test_an_image_of_another_size_than_its_annotations_are_for_is_one_finding(coco):
    path, images = coco(annotation(1, 1), annotation(2, 2), annotation(3, 2))
    cv2.imwrite(str(images / "i2.png"), np.zeros((4, 6), dtype=np.uint8))
    _, findings = clean(read_coco(path, images))
    assert findings[["image_id", "rule", "reason"]].to_numpy().tolist() == [
        [
            "i2",
            "unusable_annotation",
            "its annotations are for 2 x 3 (height x width), the image is 4 x 6; put the "
            "images there that were annotated, or annotations of these",
        ]
    ]


def test_a_table_without_any_usable_annotation_says_why(coco):
    reason = (
        "no annotation can be used: its annotations are for 3 x 2 (height x width), the image is 2 x 3: height and "
        "width are swapped in the JSON file, the image was turned after it was annotated, or `orientation` in the "
        "catalog has the wrong value (2 times)"
    )
    with pytest.raises(ValueError, match=re.escape(reason)):
        read_coco(*coco(annotation(1, 1), size=(3, 2)))


@pytest.mark.parametrize("size", [None, (2.0, 3.0), ("2", "3"), (0, 0)])
def test_sizes_may_be_absent_or_written_as_fractions_or_text(coco, size):
    table = read_coco(*coco(annotation(1, 1), annotation(2, 2), size=size))
    assert table["mask"].tolist() == ["2 2 5 1"] * 2
    assert table["problem"].isna().all()


def test_a_size_beyond_all_numbers_counts_as_absent(coco):
    table = read_coco(*coco(annotation(1, 1), size=(10**400, 3)))
    assert table["problem"].isna().all()  # the size is that of the file


def test_without_a_size_and_a_file_the_annotation_is_a_problem(coco):
    path, images = coco(annotation(1, 1), annotation(2, 2), size=None)
    (images / "i2.png").unlink()
    assert read_coco(path, images)["problem"].dropna().tolist() == [
        "annotation 2 of i2 (cat): its image has no height and width, and no file to take them from"
    ]


@pytest.mark.parametrize(("ids", "image"), [((1, 2), "2"), (("1", "2"), 2), ((1, 2), 2.0)])
def test_an_id_is_the_same_as_text_and_as_a_number(coco, ids, image):
    table = read_coco(*coco(annotation(1, image, "2"), ids=ids))
    assert table[["image_id", "class"]].to_numpy().tolist() == [["i2", "dog"], ["a/i1", NO_CLASS]]


def test_the_ids_of_annotations_may_repeat_or_be_absent(coco):
    one, other = annotation(5, 1), annotation(5, 2)
    assert read_coco(*coco(one, other))["annotation"].tolist() == ["5", "5"]
    del other["id"]
    assert read_coco(*coco(one, other))["annotation"].tolist() == ["5", "#2"]


@pytest.mark.parametrize(
    "names",
    [
        (r"a\i1.png", "i2.png"),
        (r"images\a\i1.png", "./images/i2.png"),  # relative to the JSON file
        ("%61/i1.png", "../images/i2.png"),
    ],
)
def test_a_name_is_found_with_backslashes_url_encoded_or_relative_to_the_json_file(coco, names):
    table = read_coco(*coco(annotation(1, 1), annotation(2, 2), names=names))
    assert table["image_id"].tolist() == ["a/i1", "i2"]
    assert table[["problem", "repaired"]].isna().all(axis=None)


@pytest.mark.parametrize(
    "names",
    [
        ("/home/x/a/i1.png", "/home/x/i2.png"),
        (r"C:\d\i1.png", "s3://b/i2.png"),
        ("http://h/i1.png?t=1", "x/i2.png"),
        ("A/I1.PNG", "x/I2.png"),
    ],
)
def test_a_path_of_another_computer_is_found_by_its_last_parts_with_a_finding(coco, names):
    kept, findings = clean(read_coco(*coco(annotation(1, 1), annotation(2, 2), names=names)))
    assert kept["image_id"].tolist() == ["a/i1", "i2"]
    assert findings[["rule", "action"]].to_numpy().tolist() == [["repaired_annotation", "repaired"]]
    reason = findings["reason"][0]
    assert reason.startswith("instances.json: 2 file names are paths of another computer; the files with the same last")
    assert f"such as a/i1.png for {names[0]}" in reason or f"such as i2.png for {names[1]}" in reason


def test_a_name_that_two_files_may_mean_is_not_guessed(coco):
    path, images = coco(annotation(1, 1), annotation(2, 2), names=("a/i1.png", "/home/i2.png"))
    cv2.imwrite(str(images / "a/i2.png"), np.zeros((2, 3), dtype=np.uint8))
    assert read_coco(path, images)["image_id"].tolist() == ["a/i1", "/home/i2"]  # a row without a file


def test_one_file_under_two_ids_is_not_one_image_with_the_masks_of_both(coco):
    reason = (
        "the images with the ids 1, 2 have this file name, so it is unknown which annotations belong to the file; give "
        "each image its own file name, or merge the entries"
    )
    table = read_coco(*coco(annotation(1, 1), annotation(2, 2), annotation(3, 3), ids=(1, 2, 3),
                            names=("i2.png", r".\i2.png", "a/i1.png")))  # fmt: skip
    assert table[["image_id", "problem"]].fillna("").to_numpy().tolist() == [
        ["a/i1", ""],
        ["i2", reason],
        ["i2", reason],
    ]


def test_annotations_are_for_the_photo_as_it_is_turned_or_as_it_is_stored(coco):
    path, images = coco(annotation(1, 1), annotation(2, 2), names=("a/i1.png", "turned.jpg"))
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("L", (2, 3)).save(images / "turned.jpg", exif=turned)  # shown as 3 wide, 2 high
    assert read_coco(path, images)["problem"].isna().all()
    (problem,) = read_coco(path, images, orientation="keep")["problem"].dropna()
    assert problem.startswith("its annotations are for 2 x 3 (height x width), the image is 3 x 2: height and width")


def test_a_missing_image_is_left_to_the_chain(coco):
    path, images = coco(annotation(1, 2))
    (images / "i2.png").unlink()
    assert read_coco(path, images)["problem"].isna().all()


def test_the_images_of_a_split_are_named_from_the_root(coco):
    path, images = coco(annotation(1, 2))
    assert list_images(path, images, root=path.parent) == ["images/a/i1", "images/i2"]
    assert read_coco(path, images, root=path.parent)["image_id"].tolist() == ["images/i2", "images/a/i1"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "not valid JSON: "),
        ("[]", "expected a list `images` whose entries have file_name, id"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "expected a list `images`"),
        ('{"images": [], "annotations": [3], "categories": []}', "expected a list `annotations` of annotations"),
        (
            '{"images": [{"id": 3, "file_name": "a"}, {"id": "3", "file_name": "b"}], "annotations": [],'
            ' "categories": []}',
            "the id 3 occurs twice in `images`, of a and b; it is unknown which the annotations mean",
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
