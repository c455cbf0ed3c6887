import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.manifest.metadata import IGNORED, INDEXED, NO_CLASS, clean_annotations, pivot_annotations

COLUMNS = {"image_id": "id", "class": "class", "mask": "segmentation"}


def clean(rows, *, mask_format="rle", classes=("a", "b"), several="refuse", columns=COLUMNS, ignore=()):
    metadata = pd.DataFrame(rows, columns=["id", "class", "segmentation"])
    values = classes if isinstance(classes, dict) else {name: name for name in classes}
    kept, findings = clean_annotations(
        metadata,
        mask_format=mask_format,
        columns=columns,
        class_values=values,
        multiple_masks=several,
        ignore_values=ignore,
    )
    assert len(kept) + len(findings) == len(rows)  # nothing is lost
    return kept, findings


def test_clean_rows_pass():
    kept, findings = clean([("i1", "a", "1 2"), ("i1", "b", None), ("i2", "a", "3 4")])
    assert kept.to_dict("list") == {
        "row": [2, 3, 4],
        "image_id": ["i1", "i1", "i2"],
        "class": ["a", "b", "a"],
        "mask": ["1 2", "", "3 4"],
    }
    assert findings.empty


def test_each_bad_row_is_a_finding_with_its_line():
    rows = [
        ("i1", "a", "1 2"),
        ("i1", "a", "1 2"),
        (None, "a", "1 2"),
        ("i2", None, "1 2"),
        ("i3", "liver", "1 2"),
    ]
    kept, findings = clean(rows)
    assert kept["row"].tolist() == [2]
    found = {(rule, row) for rule, row in zip(findings["rule"], findings["row"], strict=True)}
    assert found == {("duplicate_row", 3), ("missing_value", 4), ("missing_value", 5), ("unknown_class", 6)}
    assert set(findings["action"]) == {"dropped"}
    reason = findings.set_index("rule").loc["unknown_class", "reason"]
    assert reason == "class liver is not one of a, b; declare it under `dataset.classes` if you want to use it"


def test_contradicting_rows_drop_the_whole_image():
    kept, findings = clean([("i1", "a", "1 2"), ("i1", "a", "1 3"), ("i1", "b", "9 1"), ("i2", "a", "1 2")])
    assert kept["image_id"].tolist() == ["i2"]
    assert findings["rule"].tolist() == ["conflicting_rows"] * 3


def test_parts_of_one_mask_are_merged_on_request():
    kept, findings = clean([("i1", "a", "1 2"), ("i1", "a", "5 3")], several="merge")
    assert findings.empty
    assert pivot_annotations(kept, ["a"])["mask_a"].tolist() == [["1 2", "5 3"]]


def test_class_ids_match_although_a_missing_value_made_them_floats():
    kept, findings = clean([("i1", 3.0, "m1"), ("i1", np.nan, "m2")], mask_format="files", classes={"road": "3"})
    assert kept["class"].tolist() == ["road"]
    assert findings["rule"].tolist() == ["missing_value"]


def test_a_mask_file_must_be_named_but_run_lengths_may_be_empty():
    _, findings = clean([("i1", "a", None), ("i1", "b", "m")], mask_format="files")
    assert findings["rule"].tolist() == ["missing_value"]


def test_a_missing_column_names_those_there_are():
    text = r"lacks the columns \['mask_id'\]; it has \['id', 'class', 'segmentation'\]. Set the right names under"
    with pytest.raises(ValueError, match=text):
        clean([("i", "a", "1 1")], columns={**COLUMNS, "mask": "mask_id"})


def test_no_known_class_at_all_is_an_error():
    text = r"it holds \['1', '2'\], but `dataset.classes` declares \['a', 'b'\]"
    with pytest.raises(ValueError, match=text):
        clean([("i", 1, "1 1"), ("j", 2, "1 1")])


def test_indexed_rows_need_no_class():
    metadata = pd.DataFrame({"image_id": ["i1", "i2"], "file": ["m1", "m2"]})
    kept, _ = clean_annotations(
        metadata,
        mask_format=INDEXED,
        columns={"image_id": "image_id", "class": "none", "mask": "file"},
        class_values={"a": "1"},
        multiple_masks="merge",
    )
    assert pivot_annotations(kept, [INDEXED])[f"mask_{INDEXED}"].tolist() == [["m1"], ["m2"]]


def test_pivot_has_one_row_an_image_and_a_list_a_class():
    kept, _ = clean([("i2", "b", "7 1"), ("i1", "a", "1 2"), ("i1", "b", None)])
    table = pivot_annotations(kept, ["a", "b"])
    assert table.to_dict("list") == {
        "image_id": ["i1", "i2"],
        "row": [3, 2],
        "mask_a": [["1 2"], []],
        "mask_b": [[], ["7 1"]],
    }


def test_a_row_may_say_that_its_image_shows_no_class():
    kept, findings = clean([("i1", "a", "1 2"), ("i2", NO_CLASS, None)])
    assert findings.empty
    table = pivot_annotations(kept, ["a"])
    assert table[["image_id", "mask_a"]].to_numpy().tolist() == [["i1", ["1 2"]], ["i2", []]]


def test_rows_without_any_class_alone_are_an_error():
    with pytest.raises(ValueError, match=r"no row of the metadata table has a known class"):
        clean([("i1", NO_CLASS, None)])


def test_masks_of_unknown_truth_come_beside_the_classes():
    kept, findings = clean(
        [("i1", "a", "1 2"), ("i1", "crowd", "4 1"), ("i1", "9", "6 1")], ignore=["crowd", 9], several="merge"
    )
    assert findings.empty
    table = pivot_annotations(kept, ["a"])
    assert table[["mask_a", f"mask_{IGNORED}"]].to_numpy().tolist() == [[["1 2"], ["4 1", "6 1"]]]


def test_a_row_with_a_problem_takes_its_image_along():
    metadata = pd.DataFrame(
        {
            "id": ["i1", "i1", "i2", None],
            "class": "a",
            "segmentation": ["1 2", None, "3 1", None],
            "problem": [None, "polygon of 2 points", None, "of no image"],
        }
    )
    kept, findings = clean_annotations(
        metadata, mask_format="rle", columns=COLUMNS, class_values={"a": "a"}, multiple_masks="instances"
    )
    assert kept["image_id"].tolist() == ["i2"]
    assert findings.fillna({"image_id": ""})[["image_id", "row", "rule", "reason"]].to_numpy().tolist() == [
        [
            "i1",
            2,
            "incomplete_annotation",
            "another annotation of this image cannot be used, so its masks are incomplete",
        ],
        ["i1", 3, "unusable_annotation", "polygon of 2 points"],
        ["", 5, "unusable_annotation", "of no image"],
    ]


def test_instances_of_one_class_are_all_kept():
    kept, findings = clean([("i1", "a", "1 2"), ("i1", "a", "3 2")], several="instances")
    assert findings.empty
    assert pivot_annotations(kept, ["a"])["mask_a"].tolist() == [["1 2", "3 2"]]
