"""Each form of a metadata table gives the same four columns."""

import pandas as pd
import pytest

from seg_pipeline.segmentation.manifest import table_forms
from seg_pipeline.segmentation.manifest.metadata import clean_annotations
from seg_pipeline.segmentation.manifest.table_forms import absolute_runs, read_form


def form(table, mask_format="rle", **given):
    columns = {"image_id": "image_id", "class": "class", "mask": "mask", **given.pop("columns", {})}
    return read_form(pd.DataFrame(table), mask_format=mask_format, columns=columns, **given)


def values(read):
    return read[["row", "image_id", "class", "mask"]].astype(object).where(read.notna(), None).to_numpy().tolist()


def test_a_joined_key_is_split_at_its_last_underscore():
    table = {"ImageId_ClassId": ["a_1.jpg_1", "a_1.jpg_2"], "EncodedPixels": ["5 2", None]}
    patterns = {"ImageId_ClassId": r"(?P<image_id>.+)\.jpg_(?P<class>[^_]+)"}
    read = form(table, columns={"mask": "EncodedPixels"}, patterns=patterns)
    assert values(read) == [[2, "a_1", "1", "5 2"], [3, "a_1", "2", None]]


def test_a_windows_path_gives_the_name_of_the_file():
    table = {"path": [r"C:\data\images\007.png", "images/8.png"], "class": "a", "mask": [r"m\1.png", "m/2.png"]}
    patterns = {"path": r"(?:.*/)?(?P<image_id>[^/]+)\.png", "mask": r"m/(?P<mask>\d+)\.png"}
    read = form(table, "files", patterns=patterns)
    assert values(read) == [[2, "007", "a", "1"], [3, "8", "a", "2"]]


def test_a_value_that_does_not_match_its_pattern_is_a_finding():
    table = pd.DataFrame({"key": ["a_x", "b"], "mask": ["1 1", "2 1"]})
    kept, findings = clean_annotations(
        table,
        mask_format="rle",
        columns={"image_id": "image_id", "class": "class", "mask": "mask"},
        class_values={"x": "x"},
        multiple_masks="refuse",
        patterns={"key": "(?P<image_id>.+)_(?P<class>[^_]+)"},
    )
    assert kept["image_id"].tolist() == ["a"]
    (found,) = findings.to_dict("records")
    assert (found["rule"], found["row"]) == ("unusable_annotation", 3)
    assert found["reason"] == "key is b, which does not match its pattern (?P<image_id>.+)_(?P<class>[^_]+)"


def test_without_a_class_column_all_rows_are_of_the_only_class():
    table = {"image_id": ["a", "b"], "mask": ["1 1", None]}
    assert values(form(table, columns={"class": None}, only_class="ship")) == [
        [2, "a", "ship", "1 1"],
        [3, "b", "ship", None],
    ]
    with pytest.raises(ValueError, match=r"`annotations.columns.class` is null, so there must be exactly one class"):
        form(table, columns={"class": None})


def test_a_wide_table_has_a_column_of_masks_per_class():
    table = {"image_id": ["a", "b"], "width": [24, 24], "vein": ["1 1", ""], "artery": ["9 2", "3 3"]}
    read = form(table, columns={"mask": ["vein", "artery"]})
    assert values(read) == [
        [2, "a", "vein", "1 1"],
        [2, "a", "artery", "9 2"],
        [3, "b", "vein", None],
        [3, "b", "artery", "3 3"],
    ]


def test_a_declared_marker_states_that_there_is_no_mask():
    table = {"image_id": ["a", "b", "c"], "class": "x", "mask": [" -1 ", None, "4 1"]}
    assert form(table, no_mask_values=[-1])["mask"].fillna("?").tolist() == ["", "?", "4 1"]
    assert form(table, "files", no_mask_values=["", -1])["mask"].tolist() == ["", "", "4 1"]


def test_relative_starts_count_from_the_end_of_the_run_before():
    # pixels 3 4, then 5 free, then 10 11 12
    assert absolute_runs("3 2 5 3") == "3 2 10 3"
    assert absolute_runs("3 x") == "3 x"
    table = {"image_id": "a", "class": "x", "mask": ["3 2 5 3"]}
    assert form(table, rle_starts="relative")["mask"].tolist() == ["3 2 10 3"]


def test_faulty_patterns_are_explained():
    table = {"image_id": ["a"], "class": "x", "mask": ["1 1"]}
    with pytest.raises(ValueError, match=r"names the column 'id'; the table has \['image_id', 'class', 'mask'\]"):
        form(table, patterns={"id": ".*"})
    with pytest.raises(ValueError, match=r"`annotations.patterns`: '\(' is not a valid regular expression"):
        form(table, patterns={"image_id": "("})


@pytest.mark.parametrize("starts", ["absolute", "relative"])
def test_masks_read_by_blocks_are_the_same(starts, monkeypatch):
    masks = pd.Series([" 1 2", None, "nan", "-1", "", "3 1 2 1", "4 1"], dtype="str", index=range(3, 10))
    table = pd.DataFrame({"image_id": list("abcdefg"), "class": "x", "mask": masks.to_numpy()})
    whole = form(table, no_mask_values=["-1"], rle_starts=starts)
    monkeypatch.setattr(table_forms, "BLOCK", 2)
    by_blocks = form(table, no_mask_values=["-1"], rle_starts=starts)
    pd.testing.assert_frame_equal(by_blocks, whole)
    assert by_blocks["mask"].fillna("?").tolist()[:5] == ["1 2", "?", "?", "", "?"]


def test_a_row_that_says_nothing_of_its_mask_may_have_an_empty_one():
    read = form({"image_id": ["a", "b"], "class": "x", "mask": [None, "1 2"]}, silent="")
    assert values(read) == [[2, "a", "x", ""], [3, "b", "x", "1 2"]]
