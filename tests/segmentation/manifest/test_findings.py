import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.manifest import findings
from seg_pipeline.segmentation.manifest.findings import (
    COLUMNS,
    Finding,
    collect,
    counts,
    duplicated_text,
    findings_table,
    is_among,
    places_in,
    quarantine,
    reconcile,
    refuse_dropped,
    same_texts,
)
from seg_pipeline.segmentation.storage.stored_columns import concat_stored


def test_an_empty_table_has_the_same_columns_and_types():
    empty, full = findings_table([]), findings_table([Finding("rule", "why", "flagged", "i1", "f.png", 3)])
    assert list(empty) == COLUMNS
    assert empty.dtypes.tolist() == full.dtypes.tolist()


def test_take_out_splits_a_table_without_losing_a_row():
    table = pd.DataFrame({"image_id": ["i1", None, "i3"], "row": [2, 3, 4], "size": [5, 6, 7]})
    kept, findings = quarantine(table, table["size"] > 5, "large", "size is {size}")
    assert kept["image_id"].tolist() == ["i1"]
    assert findings["reason"].tolist() == ["size is 6", "size is 7"]
    assert findings["row"].tolist() == [3, 4]
    assert findings["image_id"].isna().tolist() == [True, False]


@pytest.mark.parametrize("bad", [[False, False], [True, False]])
def test_a_table_is_copied_only_where_rows_are_taken_out(bad):
    """Every step of the cleaning takes rows out; copies of all masks would fill the memory."""
    table = pd.DataFrame({"image_id": ["a", "b"], "row": [2, 3]}, index=[4, 9])
    kept, _ = quarantine(table, pd.Series(bad, index=table.index), "rule", "reason")
    pd.testing.assert_frame_equal(kept, table[~np.array(bad)])
    assert np.shares_memory(kept["row"].to_numpy(), table["row"].to_numpy()) == (not any(bad))
    kept["row"] = 0
    assert table["row"].tolist() == [2, 3]


@pytest.mark.parametrize("known", [[], ["b"]])
def test_what_is_among_others(known):
    values = pd.Series(["a", "b"], index=[4, 9], dtype="str")
    expected = values.isin(known)
    pd.testing.assert_series_equal(is_among(values, pd.Series(known, dtype="str")), expected)


def test_counts_by_rule_and_action():
    table = collect(
        findings_table([Finding("b", "", "dropped", "i2"), Finding("b", "", "dropped", "i1")]),
        findings_table([Finding("a", "", "flagged")]),
    )
    assert counts(table) == {"a (flagged)": 1, "b (dropped)": 2}
    assert table["image_id"].fillna("").tolist() == ["", "i1", "i2"]


def test_strict_stops_at_what_was_dropped_only():
    refuse_dropped(findings_table([Finding("a", "", "flagged"), Finding("a", "", "repaired")]))
    with pytest.raises(ValueError, match=r"1 inputs were dropped, .* the first: bad_mask, i1: too long"):
        refuse_dropped(findings_table([Finding("bad_mask", "too long", "dropped", "i1")]))


METADATA = pd.DataFrame({"id": ["i1", "i1", "i2", None, "i3"]})
ANNOTATIONS = pd.DataFrame({"row": [2, 3, 4, 6], "image_id": ["i1", "i1", "i2", "i3"]})
FILES = pd.DataFrame({"image_id": ["i1", "i2", None], "file": ["1.png", "2.png", "x.png"]})
KEPT = pd.DataFrame({"image_id": ["i1"], "file": ["1.png"]})
ALL_FOUND = [
    Finding("missing_value", "", "dropped", row=5),
    Finding("unreadable_image", "", "dropped", "i2", "2.png"),
    Finding("row_without_file", "", "dropped", "i3", row=6),
    Finding("unmatched_name", "", "dropped", file="x.png"),
    Finding("blank_image", "", "flagged", "i1", "1.png"),
]


def test_rows_and_files_in_are_those_kept_and_those_in_findings():
    table = reconcile(len(METADATA), ANNOTATIONS, FILES, KEPT, findings_table(ALL_FOUND))
    assert table.to_dict("records") == [
        {"input": "rows", "read": 5, "kept": 2, "set_aside": 3},
        {"input": "files", "read": 3, "kept": 1, "set_aside": 2},
    ]


def test_blank_lines_are_accounted_for():
    found = [*ALL_FOUND, Finding("blank_line", "", "flagged", row=7)]
    assert reconcile(6, ANNOTATIONS, FILES, KEPT, findings_table(found))["set_aside"].tolist() == [4, 2]


@pytest.mark.parametrize(
    ("lost", "text"), [(0, "1 of 5 rows .* such as 5"), (1, "1 of 5 rows .* 4"), (3, "1 of 3 files .* x.png")]
)
def test_what_is_neither_kept_nor_found_stops_the_run(lost, text):
    found = [finding for index, finding in enumerate(ALL_FOUND) if index != lost]
    with pytest.raises(ValueError, match=f"{text}; this is a bug in seg_pipeline; please report it"):
        reconcile(len(METADATA), ANNOTATIONS, FILES, KEPT, findings_table(found))


def test_texts_in_several_pieces_are_found(monkeypatch):
    monkeypatch.setattr(findings, "BLOCK", 2)
    pieces = pd.concat([pd.Series(["a", "b"], dtype="str"), pd.Series(["c", "a"], dtype="str")], ignore_index=True)
    others = pd.concat([pd.Series(["c"], dtype="str"), pd.Series(["x", "a"], dtype="str")], ignore_index=True)
    for values in (pieces, pd.concat([pieces[:2], concat_stored([pieces[2:].to_frame("t")])["t"]])):
        assert is_among(values, others).tolist() == [True, False, True, True]
        assert places_in(values, others).tolist() == [2, -1, 0, 2]
        assert duplicated_text(values).tolist() == [False, False, False, True]
        assert duplicated_text(values, keep=False).tolist() == [True, False, False, True]
    written = concat_stored([pieces.to_frame("t")])["t"]
    assert written.tolist() == ["a", "b", "c", "a"]


@pytest.mark.parametrize("kind", ["str", "object", "large_string[pyarrow]"])
def test_texts_are_compared_however_a_column_is_stored(kind):
    texts = pd.Series(["a", "b", "c"], dtype=kind)
    pieces = pd.concat([texts[:1], texts[1:]], ignore_index=True)
    assert same_texts(texts, pieces)
    assert same_texts(pieces, pd.Series(["a", "b", "c"], dtype="str"))
    assert not same_texts(pieces, texts.iloc[::-1])
    assert not same_texts(pieces, texts[:2])
