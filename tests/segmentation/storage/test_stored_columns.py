import pickle

import numpy as np
import pandas as pd
import pytest

from seg_pipeline.datasets.atomic import ParquetDataset
from seg_pipeline.segmentation.manifest.table import data_hash
from seg_pipeline.segmentation.manifest.table_schemas import ANNOTATED_IMAGES, ANNOTATIONS
from seg_pipeline.segmentation.storage import stored_columns
from seg_pipeline.segmentation.storage.stored_columns import StoredColumn, read_table, write_table


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(stored_columns, "LEAST_ROWS", 0)
    monkeypatch.setattr(stored_columns, "BLOCK", 3)
    monkeypatch.setattr(stored_columns, "GROUP", 5)


def make(number: int = 13) -> pd.DataFrame:
    at = range(number)
    return pd.DataFrame(
        {
            "image_id": pd.Series([f"i{index:02d}" for index in at], dtype="str"),
            "mask_a": pd.Series([f"{index} 1" if index % 3 else "" for index in at], dtype="str"),
            "frame": at,
            "mask_b": pd.Series([None if index in (4, 9) else f"b{index}" for index in at], dtype="str"),
            "row": pd.array([None, *range(1, number)], dtype="Int64"),
        }
    )


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Without stored columns, where they are of text."""
    return table.astype({name: "str" for name in table if isinstance(table[name].array, StoredColumn)})


def test_masks_of_a_large_table_stay_on_disk(tmp_path, monkeypatch):
    write_table(make(), tmp_path / "t.parquet")
    stored = read_table(tmp_path / "t.parquet")
    assert [name for name in stored if isinstance(stored[name].array, StoredColumn)] == ["mask_a", "mask_b"]
    assert stored["mask_a"].memory_usage(index=False) == 4 * 13
    assert len(list(tmp_path.glob(".t.parquet-*.arrow"))) == 1
    pd.testing.assert_frame_equal(plain(stored), make())
    monkeypatch.setattr(stored_columns, "LEAST_ROWS", 14)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), make())


@pytest.mark.parametrize(
    "use",
    {
        "slice": lambda table: table.iloc[2:11:2],
        "filter": lambda table: table[table["mask_a"] != ""],
        "shuffle": lambda table: table.iloc[np.random.default_rng(0).permutation(len(table))],
        "merge": lambda table: table.merge(make(20)[["image_id", "frame"]].iloc[::-2], on="image_id", how="outer"),
        "concat": lambda table: pd.concat([table.iloc[5:], table.iloc[:2]], ignore_index=True),
        "concat_new": lambda table: pd.concat([table.iloc[5:], make(4)], ignore_index=True).iloc[::-1],
        "reindex": lambda table: table.set_index("image_id").reindex(["i03", "x", "i01"]),
        "missing": lambda table: table.isna(),
        "equal": lambda table: table[["mask_a", "mask_b"]] == "b3",
        "map": lambda table: table["mask_a"].map(len).tolist(),
        "filled": lambda table: table["mask_b"].fillna("?").tolist(),
        "row": lambda table: table[["mask_a", "mask_b"]].iloc[3].tolist(),
        "records": lambda table: table[["image_id", "mask_a"]].to_dict("records"),
        "iterrows": lambda table: [row.tolist() for _, row in table[["image_id", "mask_a"]].iterrows()],
        "one": lambda table: (table["mask_a"].array[7], pd.isna(table["mask_b"].iloc[9])),
        "sorted": lambda table: table.sort_values("mask_a", kind="stable"),
        "sorted_by_two": lambda table: table.sort_values(["mask_b", "mask_a"]),
        "unique": lambda table: table.drop_duplicates(["mask_a", "mask_b"]),
        "groups": lambda table: table.groupby("mask_a")["frame"].min().tolist(),
        "codes": lambda table: table["mask_b"].factorize()[0].tolist(),
        "empty_texts": lambda table: (table["mask_a"] == "").tolist(),
        "hash": lambda table: pd.util.hash_pandas_object(table[["image_id", "mask_a"]]).tolist(),
        "pickle": lambda table: pickle.loads(pickle.dumps(table.iloc[3:5])),
        "empty": lambda table: table[:0],
        "constant": lambda table: table.assign(mask_a="?"),
    }.items(),
    ids=lambda use: use[0],
)
def test_a_stored_table_is_used_like_another(tmp_path, use):
    write_table(make(), tmp_path / "t.parquet")
    found, expected = (use[1](table) for table in (read_table(tmp_path / "t.parquet"), make()))
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(plain(found), expected)
    else:
        assert found == expected


def test_texts_are_put_in_lists(tmp_path):
    write_table(make(), tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet")["mask_a"].array.in_lists(np.array([0, 2, 2, 3, 7, 8]))
    assert list(found) == [["", "1 1"], [], ["2 1"], ["", "4 1", "5 1", ""], ["7 1"]]
    assert [found[row] for row in (4, 1)] == [["7 1"], []]
    assert found.holds_lists


def test_stored_columns_are_written_as_others(tmp_path):
    """Lists and an index too, from two files and memory; empty tables keep their types."""
    lists = make().assign(mask_a=[["x"] * (index % 3) for index in range(13)])
    for number, table in enumerate([make(), make().iloc[3:9], make()[make()["frame"] % 2 == 0], lists, make()[:0]]):
        table.to_parquet(tmp_path / "plain.parquet")
        write_table(read_table(tmp_path / "plain.parquet"), tmp_path / f"{number}.parquet")
        pd.testing.assert_frame_equal(
            pd.read_parquet(tmp_path / f"{number}.parquet"), pd.read_parquet(tmp_path / "plain.parquet")
        )
    both = pd.concat([read_table(tmp_path / "0.parquet"), make(2), read_table(tmp_path / "1.parquet")])
    write_table(both, tmp_path / "both.parquet")
    pd.testing.assert_frame_equal(plain(read_table(tmp_path / "both.parquet")), plain(both))
    read_table(tmp_path / "0.parquet").to_parquet(tmp_path / "pandas.parquet")
    pd.testing.assert_frame_equal(plain(pd.read_parquet(tmp_path / "pandas.parquet")), make())


def test_a_changed_table_is_unpacked_again(tmp_path):
    entry = ParquetDataset(filepath=(tmp_path / "t.parquet").as_posix())
    entry.save(make())
    before = entry.load()
    (old,) = tmp_path.glob(".*.arrow")
    entry.save(make().assign(mask_a="new mask"))
    assert set(entry.load()["mask_a"]) == {"new mask"}
    assert len(list(tmp_path.glob(".*.arrow"))) == 1
    assert not old.exists()
    with pytest.raises(FileNotFoundError, match=r"t\.parquet-"):
        before["mask_a"].tolist()


def test_what_an_older_version_unpacked_is_unpacked_again(tmp_path, monkeypatch):
    table = make().assign(path=[f"/scans/{index}.png" for index in range(13)])
    write_table(table, tmp_path / "t.parquet")
    with monkeypatch.context() as older:
        older.setattr(stored_columns, "TEXTS", set())
        assert not isinstance(read_table(tmp_path / "t.parquet")["path"].array, StoredColumn)
    stored = read_table(tmp_path / "t.parquet")
    assert isinstance(stored["path"].array, StoredColumn)
    pd.testing.assert_frame_equal(plain(stored), table.astype({"path": "str"}))


def test_a_table_that_cannot_be_unpacked_is_read_whole(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    write_table(make(), tmp_path / "t.parquet")
    monkeypatch.setattr(stored_columns, "beside", full)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), make())


def test_schemas_know_texts_from_lists(tmp_path):
    rows = pd.DataFrame({"row": [2, 3], "image_id": ["a", "b"], "class": "c", "mask": ["1 2", ""]})
    images = pd.DataFrame({"image_id": ["a", "b"], "row": [2, 3], "mask_c": [["1 2"], []]})
    for table, schema in ((rows, ANNOTATIONS), (images, ANNOTATED_IMAGES)):
        write_table(table, tmp_path / "t.parquet")
        stored = read_table(tmp_path / "t.parquet")
        assert schema.validate(stored) is stored
    with pytest.raises(ValueError, match="column 'mask_c' holds stored values such as"):
        ANNOTATED_IMAGES.validate(images.assign(mask_c=StoredColumn._from_sequence(["1 2", ""])))


def test_the_hash_of_the_data_is_that_of_the_masks(tmp_path):
    table = make().assign(content_hash="h", series="s", split="train", ignore="")
    write_table(table, tmp_path / "t.parquet")
    assert data_hash(read_table(tmp_path / "t.parquet")) == data_hash(table)
