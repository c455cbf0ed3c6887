from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from seg_pipeline.segmentation.manifest import metadata, table_forms
from seg_pipeline.segmentation.manifest.metadata import IGNORED, INDEXED, NO_CLASS, clean_annotations, pivot_annotations
from seg_pipeline.segmentation.storage.stored_columns import concat_stored

CATALOG = Path(__file__).parents[3] / "conf/base/catalog.yml"
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
    lines = {*kept["row"], *findings["row"]}
    assert lines == set(range(2, len(rows) + 2))  # nothing is lost
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
        ("i1", "liver", "1 2"),
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
    kept, findings = clean([("i1", 3.0, "m1"), ("i2", np.nan, "m2")], mask_format="files", classes={"road": "3"})
    assert kept["class"].tolist() == ["road"]
    assert findings["rule"].tolist() == ["missing_value"]


@pytest.mark.parametrize("blank", [None, "", " "])
def test_a_blank_mask_is_no_mask_and_a_finding_where_a_file_is_expected(blank):
    rows = [("i1", "a", blank), ("i1", "b", "m"), ("i2", "a", blank)]
    for mask_format in ("rle", "files"):
        kept, findings = clean(rows, mask_format=mask_format)
        table = pivot_annotations(kept, ["a", "b"])
        assert table[["image_id", "mask_a", "mask_b"]].to_numpy().tolist() == [["i1", [], ["m"]], ["i2", [], []]]
        told = ["blank_mask", "flagged", "the row names no mask file, so the image is taken to have no mask of a"]
        assert findings[["rule", "action", "reason"]].to_numpy().tolist() == [told] * (
            2 if mask_format == "files" else 0
        )
    kept, findings = clean(rows, mask_format=INDEXED)
    assert kept["image_id"].tolist() == ["i1"]
    assert findings[["image_id", "rule"]].to_numpy().tolist() == [["i1", "missing_value"], ["i2", "missing_value"]]


def test_run_lengths_that_a_program_wrote_as_missing_are_no_mask():
    kept, findings = clean([("i1", "a", "NaN"), ("i2", "a", "None"), ("i3", "a", "1 2")])
    assert findings.empty
    assert kept["mask"].tolist() == ["", "", "1 2"]


def test_a_mask_without_class_takes_its_image_along():
    rows = [("i1", "a", "1 2"), ("i1", None, "5 1"), ("i2", "a", "1 2"), ("i2", None, None), ("i3", "b", "1 2")]
    kept, findings = clean(rows)
    assert kept["image_id"].tolist() == ["i2", "i3"]
    assert findings[["row", "rule", "reason"]].to_numpy().tolist() == [
        [
            2,
            "incomplete_annotation",
            "another row of this image has a mask without a class, so its masks are incomplete",
        ],
        [3, "missing_value", "one of image_id, class is missing"],
        [5, "missing_value", "one of image_id, class is missing"],
    ]


@pytest.mark.parametrize("name", ["None", "NA", "nan", "N/A", "NULL", "ignore", "indexed", "share", "images"])
def test_a_class_may_have_any_name(name, tmp_path):
    kept, findings = clean([("i1", name, "1 2"), ("i1", "crowd", "5 1")], classes=("a", name), ignore=["crowd"])
    assert findings.empty
    table = pivot_annotations(kept, ["a", name])
    assert table[[f"mask_{name}", f"mask_{IGNORED}"]].to_numpy().tolist() == [[["1 2"], ["5 1"]]]
    (tmp_path / "t.csv").write_text(f"id,class,segmentation\n\ni1,{name},1 2\n,,\ni2,a,\n")
    load_args = yaml.safe_load(CATALOG.read_text())["raw_metadata"]["load_args"]
    kept, findings = clean(pd.read_csv(tmp_path / "t.csv", **load_args), classes=("a", name))
    assert kept.to_numpy().tolist() == [[3, "i1", name, "1 2"], [5, "i2", "a", ""]]
    assert findings[["rule", "action", "row"]].to_numpy().tolist() == [
        ["blank_line", "flagged", 2],
        ["blank_line", "flagged", 4],
    ]


def test_an_image_of_undeclared_classes_alone_stays_as_one_without_objects():
    kept, findings = clean(
        [("i1", "dog", "1 2"), ("i1", "cat", "5 1"), ("i2", "a", "1 2"), ("i2", "dog", "9 1")], several="instances"
    )
    assert pivot_annotations(kept, ["a"])[["image_id", "mask_a"]].to_numpy().tolist() == [["i1", []], ["i2", ["1 2"]]]
    known = "is not one of a, b; declare it under `dataset.classes` if you want to use it"
    alone = f"{known}; the image shows no other class and stays, as an image without objects"
    assert findings[["row", "reason"]].to_numpy().tolist() == [
        [2, f"class dog {alone}"],
        [3, f"class cat {alone}"],
        [5, f"class dog {known}"],
    ]


def test_two_mask_files_of_one_id_are_not_one_row_repeated():
    index = pd.DataFrame({"path": ["/m/i0.png", "/m/i0.tif", "/m/i1.png"], "file": ["i0.png", "i0.tif", "i1.png"]})
    index = index.assign(id=["i0", "i0", "i1"], segmentation=["i0", "i0", "i1"], **{"class": "a"})
    options = {"mask_format": "files", "columns": COLUMNS, "class_values": {"a": "a"}}
    kept, findings = clean_annotations(index, multiple_masks="refuse", **options)
    assert kept["image_id"].tolist() == ["i1"]
    assert findings[["rule", "file"]].to_numpy().tolist() == [
        ["conflicting_rows", "i0.png"],
        ["conflicting_rows", "i0.tif"],
    ]
    stray = pd.concat([index, pd.DataFrame({"path": ["/m/i1_2.png"], "file": ["i1_2.png"]})], ignore_index=True)
    _, findings = clean_annotations(stray, multiple_masks="merge", **options)
    assert findings[["file", "reason"]].to_numpy().tolist() == [
        [
            "i1_2.png",
            "one of image_id, class is missing: the name of the mask file does not match `pattern` of `raw_metadata`",
        ]
    ]
    kept, findings = clean_annotations(index, multiple_masks="merge", **options)
    assert kept["mask"].tolist() == ["i0", "i0", "i1"]  # merge_files refuses the id
    assert findings.empty


def test_a_missing_column_names_those_there_are():
    text = r"lacks the columns \['mask_id'\]; it has \['id', 'class', 'segmentation'\]. Set the right names under"
    with pytest.raises(ValueError, match=text):
        clean([("i", "a", "1 1")], columns={**COLUMNS, "mask": "mask_id"})


def test_no_known_class_at_all_is_an_error():
    with pytest.raises(ValueError, match="no row of the metadata table shows a class") as caught:
        clean([("i", 1, "1 1"), ("j", 2, "1 1"), (None, "a", "1 1")])
    assert str(caught.value) == (
        "no row of the metadata table shows a class of `dataset.classes`, ['a', 'b']: 1 x missing_value, such as row "
        "4: one of image_id, class is missing; 2 x unknown_class, such as row 2, i: class 1 is not one of a, b; "
        "declare it under `dataset.classes` if you want to use it; the image shows no other class and stays, as an "
        "image without objects; the class column holds ['1', '2']"
    )


def test_an_error_about_problems_tells_them():
    metadata = pd.DataFrame(
        {"id": ["i1", "i2"], "class": "a", "segmentation": "1 1", "problem": ["2 points", "no size"]}
    )
    text = r"\['a'\]: 2 x unusable_annotation, such as row 2, i1: 2 points$"
    with pytest.raises(ValueError, match=text):
        clean_annotations(metadata, mask_format="rle", columns=COLUMNS, class_values={"a": "a"}, multiple_masks="merge")


def test_a_table_without_rows_stays_empty():
    kept, findings = clean([])
    assert kept.empty
    assert findings.empty
    assert list(pivot_annotations(kept, ["a"])) == ["image_id", "row", "mask_a"]


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
    with pytest.raises(ValueError, match=r"\['a', 'b'\]: every row states that its image shows no class$"):
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


def test_hundreds_of_classes_are_pivoted_without_a_warning():
    names = [f"n{number}" for number in range(300)]
    rows = pd.DataFrame({"image_id": ["i1", "i2"], "class": ["n3", "n299"], "mask": ["1 2", "5 1"], "row": [2, 3]})
    found = pivot_annotations(rows, names)
    assert list(found) == ["image_id", "row", *(f"mask_{name}" for name in names)]
    assert found[["mask_n3", "mask_n299"]].to_numpy().tolist() == [[["1 2"], []], [[], ["5 1"]]]


@pytest.mark.parametrize("several", ["merge", "refuse", "instances"])
@pytest.mark.parametrize("form", ["long", "wide", "files"])
def test_a_table_on_disk_is_cleaned_by_parts_as_at_once(monkeypatch, form, several):
    monkeypatch.setattr(metadata, "PART_ROWS", 9)
    monkeypatch.setattr(table_forms, "BLOCK", 4)
    rng = np.random.default_rng(5)

    def drawn(values):
        return pd.Series(rng.choice(np.array(values, dtype=object), 80), dtype="str")

    ids = drawn([*(f"i{number}" for number in range(16)), " i3", "i4 ", "a\\b", None])
    masks = ["1 2", "3 4", " 5 6 ", "", "nan", None]
    table = pd.DataFrame(
        {"id": ids, "class": drawn(["a", "a", "b", "b ", "other", None]), "segmentation": drawn(masks)}
    )
    columns = COLUMNS
    if form == "wide":
        table = pd.DataFrame({"id": ids, "a": drawn(masks), "b": drawn(masks)})
        columns = COLUMNS | {"mask": ["a", "b"]}
    table.loc[[7, 50], :] = None  # blank lines
    how = {"mask_format": "files" if form == "files" else "rle", "columns": columns}
    how |= {"class_values": {"a": "a", "b": "b"}, "multiple_masks": several, "ignore_values": ["other"]}
    rows, findings = clean_annotations(table, **how)
    of_parts, also = clean_annotations(concat_stored([table[:33], table[33:]]), **how)
    assert len(rows) > 1
    assert findings["rule"].nunique() > 1
    pd.testing.assert_frame_equal(of_parts.astype(rows.dtypes.to_dict()), rows)
    pd.testing.assert_frame_equal(also, findings)
    pivoted, expected = (pivot_annotations(one, ["a", "b"]) for one in (of_parts, rows))
    assert {name: pivoted[name].tolist() for name in expected} == {name: expected[name].tolist() for name in expected}
