import json

import pytest
from kedro.io import DataCatalog, DatasetError

from seg_pipeline.datasets.file_index import FileIndexDataset

PATTERN = r"(?P<series>[^/]+)/(?P<frame>\d+)\.png"


@pytest.fixture
def raw(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/07.png", "b/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_the_catalog_gives_the_index(raw):
    entry = {
        "type": "seg_pipeline.datasets.file_index.FileIndexDataset",
        "filepath": str(raw),
        "glob": "**/*.png",
        "pattern": PATTERN,
        "columns": {"image_id": "{series}-{frame}"},
        "metadata": {"seg_pipeline": {"if_missing": "draw it"}},
    }
    catalog = DataCatalog.from_config({"image_files": entry})
    table = catalog.load("image_files")
    assert table["image_id"].tolist()[:3] == ["a-1", "a-2", "b-07"]
    assert table["image_id"].isna().tolist() == [False, False, False, True]
    assert catalog["image_files"].metadata == entry["metadata"]


def test_without_a_pattern_the_index_is_empty_and_needs_no_folder(tmp_path):
    dataset = FileIndexDataset(filepath=str(tmp_path / "nowhere"), pattern=None)
    assert dataset.exists()
    table = dataset.load()
    assert len(table) == 0
    assert table.columns.tolist() == ["path", "file"]


def test_it_exists_where_its_folder_does(raw):
    assert FileIndexDataset(filepath=str(raw), pattern=PATTERN).exists()
    assert not FileIndexDataset(filepath=str(raw / "none"), pattern=PATTERN).exists()
    assert not FileIndexDataset(filepath=str(raw / "a" / "1.png"), pattern=PATTERN).exists()


def test_the_preview_is_a_short_table_of_plain_values(raw):
    dataset = FileIndexDataset(filepath=str(raw), pattern=PATTERN)
    preview = dataset.preview(nrows=4)
    assert preview["columns"] == ["path", "file", "series", "frame"]
    assert [row[1:] for row in json.loads(json.dumps(preview))["data"]] == [
        *(["a/1.png", "a", 1], ["a/2.png", "a", 2], ["b/07.png", "b", 7], ["b/x.png", None, None]),
    ]
    assert len(dataset.preview(nrows=2)["data"]) == 2
    assert FileIndexDataset.preview.__annotations__["return"] == "TablePreview"  # Kedro-Viz draws by this name


def test_errors_of_the_index_reach_the_user(raw):
    with pytest.raises(DatasetError, match=f"{raw}/none: no such folder"):
        FileIndexDataset(filepath=str(raw / "none"), pattern=PATTERN).load()


def test_it_cannot_be_saved(raw):
    with pytest.raises(DatasetError, match=f"{raw}: raw data is read-only; cannot save data of type int"):
        FileIndexDataset(filepath=str(raw), pattern=PATTERN).save(1)


def test_its_text_names_folder_and_glob(raw):
    text = str(FileIndexDataset(filepath=str(raw), pattern=PATTERN))
    assert f"filepath='{raw.as_posix()}'" in text
    assert "glob='**/*'" in text
