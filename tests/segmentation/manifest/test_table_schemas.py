import pandas as pd
import pytest

from seg_pipeline.segmentation.manifest.column_types import CLASS, Column, Table
from seg_pipeline.segmentation.manifest.table_schemas import FINDINGS, MANIFEST

SIZES = Table(
    "sizes",
    "Sizes.",
    (
        Column("image_id", "text", "", unique=True),
        Column("height", "integer", "", least=1, most=9),
        Column("note", "text", "", nullable=True, required=False),
        Column(f"mask_{CLASS}", "list", ""),
        Column("split", "text", "", one_of=("train", "test")),
    ),
    closed=False,
)


def sizes(**changes):
    columns = {
        "image_id": ["i1", "i2", "i3"],
        "height": [1, 9, 4],
        "mask_a": [["1 2"], [], []],
        "mask_b": [[], [], ["3 4", "5 6"]],
        "split": ["train", "test", "train"],
    }
    return pd.DataFrame({**columns, **changes})


def test_a_table_as_declared_passes_as_it_is():
    table = sizes(note=["x", None, None], more=[1, 2, 3])
    assert SIZES.validate(table) is table


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"image_id": ["i1", "i2", "i1"]}, "column 'image_id' holds 'i1' in row 2, expected each value once"),
        ({"image_id": ["i1", None, None]}, r"column 'image_id' is empty in 2 rows \(the first: 1\), but every row"),
        ({"image_id": [1, 2, 3]}, "column 'image_id' holds int64 values such as .*1.*, expected text"),
        ({"height": [0, 9, 4]}, "column 'height' holds .*0.* in row 0, expected at least 1"),
        ({"height": [1, 10, 4]}, "column 'height' holds .*10.* in row 1, expected at most 9"),
        ({"height": [1.0, 2.5, 3.0]}, "column 'height' holds float64 values such as .*1.0.*, expected integer"),
        ({"height": [True, False, True]}, "column 'height' holds bool values such as .*True.*, expected integer"),
        ({"mask_b": ["1 2", "", ""]}, "column 'mask_b' holds str values such as '1 2', expected list"),
        ({"split": ["train", "val", "test"]}, "column 'split' holds 'val' in row 1, expected one of train, test"),
    ],
)
def test_what_is_wrong_is_said(changes, text):
    with pytest.raises(ValueError, match=f"table `sizes` does not match docs/reference/tables.md: {text}"):
        SIZES.validate(sizes(**changes))


def test_missing_and_unknown_columns_are_named():
    with pytest.raises(ValueError, match=r"column 'mask_<class>' is missing; there are image_id, height, split"):
        SIZES.validate(sizes().drop(columns=["mask_a", "mask_b"]))
    with pytest.raises(ValueError, match=r"columns \['extra'\] are not declared"):
        FINDINGS.validate(pd.DataFrame({one.name: [] for one in FINDINGS.columns} | {"extra": []}))
    with pytest.raises(ValueError, match="found a dict, expected a DataFrame"):
        MANIFEST.validate({})


def test_all_faults_are_told_at_once():
    with pytest.raises(ValueError, match=r"'image_id'.*; column 'height'.*; column 'split'"):
        SIZES.validate(sizes(image_id=["i1"] * 3, height=[0, 0, 0], split=["a", "b", "c"]))
