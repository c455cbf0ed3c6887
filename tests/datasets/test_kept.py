import logging

import pandas as pd
import pytest
from kedro.io import DatasetError

from seg_pipeline.datasets.kept import KeptTableDataset

TABLE = pd.DataFrame({"key": ["k1", "k2"], "outcome": ["{}", '{"a": 1}']}, dtype="str")


@pytest.fixture
def dataset(tmp_path):
    return KeptTableDataset(filepath=str(tmp_path / "deep" / "kept.parquet"), columns=["key", "outcome"])


def test_it_may_be_missing_and_comes_back_as_it_was_saved(dataset):
    assert dataset.missing_ok
    assert not dataset.exists()
    assert dataset.load() is None
    table = TABLE.assign(more=pd.array([1, None], dtype="Int64"))
    dataset.save(table)
    assert dataset.exists()
    pd.testing.assert_frame_equal(dataset.load(), table)
    assert [file.name for file in dataset._filepath.parent.iterdir()] == ["kept.parquet"]


def _cut(content):
    return content[: len(content) // 2]


def _flip(content):
    at = content.index(b'{"a": 1}')
    return content[:at] + b"X" + content[at + 1 :]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda _: b""])
def test_a_damaged_one_is_not_used_and_said_to_be(dataset, damage, caplog):
    dataset.save(TABLE)
    dataset._filepath.write_bytes(damage(dataset._filepath.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert dataset.load() is None
    assert "kept.parquet cannot be used, so that all is read anew: " in caplog.text


def test_one_of_other_columns_is_not_used(dataset, caplog):
    dataset._filepath.parent.mkdir()
    TABLE.rename(columns={"key": "name"}).to_parquet(dataset._filepath)
    assert dataset.load() is None
    assert "it lacks the columns ['key']; it has ['name', 'outcome']" in caplog.text


def test_a_save_that_fails_leaves_the_one_before(dataset):
    dataset.save(TABLE)
    with pytest.raises(DatasetError, match="outcome"):
        dataset.save(TABLE[["key"]])
    pd.testing.assert_frame_equal(dataset.load(), TABLE)
