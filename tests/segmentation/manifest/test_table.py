import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.manifest.findings import Finding, findings_table
from seg_pipeline.segmentation.manifest.table import (
    class_names,
    count_classes,
    data_hash,
    late_files,
    merge_files,
    read_masks,
    read_shown_masks,
)
from seg_pipeline.segmentation.objects.label_maps import encode_labels

NO_MASK_FILES = pd.DataFrame({"path": [], "file": []}, dtype="str")


def files(*ids, **columns):
    names = [f"{name}.png" for name in ids]
    return pd.DataFrame({"path": [f"/raw/{name}" for name in names], "file": names, "image_id": ids, **columns})


def annotated(*ids):
    return pd.DataFrame({"image_id": ids, "row": range(2, len(ids) + 2), "mask_a": [["1 1"]] * len(ids)})


def test_images_and_files_meet_and_the_rest_are_findings():
    table, findings = merge_files(
        annotated("i2", "i1", "i9"), files("i1", "i2", "i3", None), NO_MASK_FILES, mask_format="rle"
    )
    assert table["image_id"].tolist() == ["i1", "i2"]
    assert table["file"].tolist() == ["i1.png", "i2.png"]
    found = dict(zip(findings["rule"], findings["file"].fillna(""), strict=True))
    assert found == {"row_without_file": "", "file_without_row": "i3.png", "unmatched_name": "None.png"}
    assert findings.set_index("rule").loc["row_without_file", "row"] == 4


def test_two_files_of_one_image_are_both_left_out():
    table, findings = merge_files(annotated("i1", "i2"), files("i1", "i1", "i2"), NO_MASK_FILES, mask_format="rle")
    assert table["image_id"].tolist() == ["i2"]
    assert (
        findings[["rule", "reason"]].to_numpy().tolist()
        == [["duplicate_file", "several files have the image_id i1"]] * 2
    )  # not that its row has no file


def test_an_image_that_was_refused_before_is_neither_reported_again_nor_taken_as_empty():
    refused = findings_table([Finding("incomplete_annotation", "", "dropped", "i2"), Finding("x", "", "flagged", "i3")])
    for images_without_row, kept, rules in (("drop", ["i1"], ["file_without_row"]), ("empty", ["i1", "i3"], [])):
        table, findings = merge_files(
            annotated("i1"),
            files("i1", "i2", "i3"),
            NO_MASK_FILES,
            mask_format="rle",
            images_without_row=images_without_row,
            refused=refused,
        )
        assert table["image_id"].tolist() == kept
        assert findings["rule"].tolist() == rules
        assert "i2" not in findings["image_id"].tolist()


def test_without_any_image_the_error_tells_what_was_refused():
    index = files("s1", "s1", None, problem=[None, None, "NaN in labels"])
    with pytest.raises(ValueError, match="no image of the metadata table has a file") as caught:
        merge_files(
            annotated()[:0],
            index,
            NO_MASK_FILES,
            mask_format="rle",
            refused=findings_table([Finding("missing_value", "no class", "dropped", "s1", row=4)]),
        )
    assert str(caught.value) == (
        "no image of the metadata table has a file: 2 x duplicate_file, such as s1.png: several files have the "
        "image_id s1; 1 x missing_value, such as row 4, s1: no class; 1 x unusable_file, such as None.png: NaN in "
        "labels"
    )


def test_ids_that_lost_their_leading_zeros_are_recognised():
    with pytest.raises(ValueError, match=r"differ in leading zeros: read the table with `load_args: \{ dtype: str \}`"):
        merge_files(annotated("7"), files("007"), NO_MASK_FILES, mask_format="rle")


@pytest.mark.parametrize("name", ["row", "mask_id", "area_cm"])
def test_a_pattern_group_must_not_have_a_name_of_the_manifest(name):
    with pytest.raises(ValueError, match=rf"give the columns \['{name}'\], whose names the manifest uses itself"):
        merge_files(annotated("i1"), files("i1", **{name: ["x"]}), NO_MASK_FILES, mask_format="rle")


def test_a_file_with_a_problem_is_a_finding_with_its_reason():
    index = files("i1", "i2", problem=[None, "damaged at byte 7"])  # not also that the row of i2 has no file
    table, findings = merge_files(annotated("i1", "i2"), index, NO_MASK_FILES, mask_format="rle")
    assert "problem" not in table
    assert findings[["rule", "reason", "action"]].to_numpy().tolist() == [
        ["unusable_file", "damaged at byte 7", "dropped"]
    ]


def test_an_image_that_no_row_names_may_be_empty():
    index = files("i1", "i2", None)
    table, findings = merge_files(annotated("i1"), index, NO_MASK_FILES, mask_format="rle", images_without_row="empty")
    assert table[["image_id", "mask_a"]].to_numpy().tolist() == [["i1", ["1 1"]], ["i2", []]]
    assert findings["rule"].tolist() == ["unmatched_name"]
    assert table["row"].isna().tolist() == [False, True]


def test_series_and_group_fall_back_on_what_is_known():
    table, _ = merge_files(annotated("i1", "i2"), files("i1", "i2"), NO_MASK_FILES, mask_format="rle")
    assert table[["group", "series", "frame"]].to_numpy().tolist() == [["i1", "i1", 0], ["i2", "i2", 0]]
    table, _ = merge_files(annotated("i1", "i2"), files("i1", "i2", group=["g", "g"]), NO_MASK_FILES, mask_format="rle")
    assert table[["group", "series", "frame"]].to_numpy().tolist() == [["g", "g", 0], ["g", "g", 1]]


def test_frames_follow_the_natural_order_of_the_files_though_rows_name_only_some():
    ids = ["v_10", "v_1", "v_2", "v_9"]
    options = {"mask_format": "rle", "images_without_row": "empty"}
    table, _ = merge_files(annotated("v_9", "v_2"), files(*ids, group=["v"] * 4), NO_MASK_FILES, **options)
    assert dict(zip(table["image_id"], table["frame"], strict=True)) == {"v_1": 0, "v_2": 1, "v_9": 2, "v_10": 3}
    frames = pd.array([7, None, 5, 6], dtype="Int64")
    index = files(*ids, group=["v"] * 4, frame=frames)
    table, _ = merge_files(annotated(*ids), index, NO_MASK_FILES, mask_format="rle")
    assert dict(zip(table["image_id"], table["frame"], strict=True)) == {"v_1": 0, "v_2": 5, "v_9": 6, "v_10": 7}


def test_series_of_one_name_in_two_groups_are_told_apart():
    index = files("i1", "i2", "i3", group=["p1", "p2", "p1"], series=["s1", "s1", "s1"])
    table, _ = merge_files(annotated("i1", "i2", "i3"), index, NO_MASK_FILES, mask_format="rle")
    assert table[["series", "frame"]].to_numpy().tolist() == [["p1/s1", 0], ["p2/s1", 0], ["p1/s1", 1]]
    index = files("i1", "i2", group=["p1", "p2"], series=["p1_s1", "p2_s1"])
    table, _ = merge_files(annotated("i1", "i2"), index, NO_MASK_FILES, mask_format="rle")
    assert table["series"].tolist() == ["p1_s1", "p2_s1"]


def test_mask_ids_become_paths():
    images = pd.DataFrame({"image_id": ["i1", "i2"], "row": [2, 3], "mask_a": [["m1"], ["gone"]]})
    masks = pd.DataFrame({"path": ["/raw/m1.png", "/raw/x.png"], "file": ["m1.png", "x.png"], "mask_id": ["m1", "x"]})
    table, findings = merge_files(images, files("i1", "i2"), masks, mask_format="files")
    assert table["mask_a"].tolist() == [["/raw/m1.png"]]
    actions = dict(zip(findings["rule"], findings["action"], strict=True))
    assert actions == {"mask_without_file": "dropped", "mask_file_without_row": "flagged"}


def test_a_mask_id_of_several_files_takes_its_image_out():
    images = pd.DataFrame({"image_id": ["i1", "i2"], "row": [2, 3], "mask_a": [["m", "n"], ["n"]]})
    names = ["v1/m.png", "v2/m.png", "n.png", "v1/x.png", "v2/x.png"]
    masks = pd.DataFrame({"path": names, "file": names, "mask_id": ["m", "m", "n", "x", "x"]})
    table, findings = merge_files(images, files("i1", "i2"), masks, mask_format="files")
    assert table[["image_id", "mask_a"]].to_numpy().tolist() == [["i2", ["n.png"]]]
    found = findings[["rule", "action", "image_id", "file"]].fillna("").to_numpy().tolist()
    assert sorted(found) == [
        ["duplicate_mask_file", "dropped", "", "v1/m.png"],
        ["duplicate_mask_file", "dropped", "", "v2/m.png"],
        ["duplicate_mask_file", "dropped", "i1", "i1.png"],
        ["mask_file_without_row", "flagged", "", "v1/x.png"],
        ["mask_file_without_row", "flagged", "", "v2/x.png"],
    ]


def test_no_image_with_a_file_shows_both_kinds_of_ids():
    text = r"the table's ids are like \['i1'\], those that the files' names give like \['scan1'\]"
    with pytest.raises(ValueError, match=text):
        merge_files(annotated("i1"), files("scan1"), NO_MASK_FILES, mask_format="rle")


def test_inputs_are_left_as_they_were():
    table, index = annotated("i1"), files("i1", None)
    before = (table.copy(deep=True), index.copy(deep=True))
    merge_files(table, index, NO_MASK_FILES, mask_format="rle")
    pd.testing.assert_frame_equal(table, before[0])
    pd.testing.assert_frame_equal(index, before[1])


def test_masks_of_a_row_by_hand():
    row = {"height": 2, "width": 3, "mask_a": "2 1 6 1", "mask_b": "", "ignore": "1 1"}
    masks = read_masks(row, ["a", "b"])
    assert masks.dtype == np.uint8
    np.testing.assert_array_equal(masks[0], [[IGNORE, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(masks[1], [[IGNORE, 0, 0], [0, 0, 0]])


def test_classes_are_counted_by_split(manifest):
    assert class_names(manifest) == ["box", "disc"]
    counts = count_classes(manifest)  # scans 0, 4, 8 and 12 are empty
    assert counts.loc["box"].to_dict() == {"train": 7, "val": 2, "test": 3}
    assert counts.loc["no mask"].to_dict() == {"train": 3, "val": 1, "test": 0}


def test_the_data_hash_sees_masks_and_splits_but_not_folders(manifest):
    hashed = data_hash(manifest)
    assert data_hash(manifest.assign(path="elsewhere").sample(frac=1, random_state=1)) == hashed
    assert data_hash(manifest.assign(split=manifest["split"].replace("val", "test"))) != hashed
    assert data_hash(manifest.assign(mask_box="1 1")) != hashed


def test_files_that_came_during_the_run_are_named():
    listed = files("i1", "i2")
    assert late_files(listed, listed).empty
    found = late_files(listed, files("i1", "i2", "i3"))
    assert found[["rule", "action", "image_id", "reason"]].to_numpy().tolist() == [
        ["late_file", "flagged", "i3", "the file came while data_processing ran"]
    ]


@pytest.mark.parametrize(
    ("side", "shown"),
    [
        (8, [[1, 1, 0, 1, 1, 1, 0, 1], [1, 1, 0, 1, 1, 1, 0, 1]]),
        (4, [[1, 1, 0, 0, 1, 1, 0, 1], [1, 1, 0, 0, 1, 1, 0, 1]]),  # half as large: the cut is twice as wide
    ],
)
def test_drawn_masks_are_cut_where_objects_touch(side, shown):
    labels = np.array([[1, 1, 1, 2, 2, 2, 0, 3]] * 2)
    row = {"height": 2, "width": 8, "ignore": "", "mask_a": "1 6 8 7 16 1", "mask_b": "1 8",
           "object_map_a": encode_labels(labels)}  # fmt: skip
    found = read_shown_masks(row, ["a", "b"], side=side)
    assert found[0].astype(int).tolist() == shown
    assert found[1].astype(int).tolist() == [[1] * 8, [0] * 8]  # a class without objects


def test_rows_without_objects_are_drawn_as_they_are():
    row = {"height": 1, "width": 3, "ignore": "3 1", "mask_a": "1 2"}
    assert read_shown_masks(row, ["a"], side=2).tolist() == [[[True, True, False]]]
