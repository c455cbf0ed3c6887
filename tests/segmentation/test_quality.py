import pandas as pd
import pytest

from seg_pipeline.segmentation.quality import (
    COLUMNS,
    Finding,
    collect,
    counts,
    findings_table,
    refuse_dropped,
    take_out,
)


def test_an_empty_table_has_the_same_columns_and_types():
    empty, full = findings_table([]), findings_table([Finding("rule", "why", "flagged", "i1", "f.png", 3)])
    assert list(empty) == COLUMNS
    assert empty.dtypes.tolist() == full.dtypes.tolist()


def test_take_out_splits_a_table_without_losing_a_row():
    table = pd.DataFrame({"image_id": ["i1", None, "i3"], "row": [2, 3, 4], "size": [5, 6, 7]})
    kept, findings = take_out(table, table["size"] > 5, "large", "size is {size}")
    assert kept["image_id"].tolist() == ["i1"]
    assert findings["reason"].tolist() == ["size is 6", "size is 7"]
    assert findings["row"].tolist() == [3, 4]
    assert findings["image_id"].isna().tolist() == [True, False]


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
