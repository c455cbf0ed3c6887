from __future__ import annotations

import json
import logging
import pickle

import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError

from seg_pipeline.datasets.sample import SampleDataset

PHANTOM = {"num_cases": 1, "days_per_case": 1, "frames_per_series": [3, 3], "size": 64}
TABLE = {"type": "pandas.CSVDataset", "filepath": "train.csv"}
FILES = {
    "type": "seg_pipeline.datasets.file_index.FileIndexDataset",
    "filepath": "train",
    "glob": "**/*.png",
    "pattern": r"(?P<group>case\d+)/.*",
}


def sample(folder, dataset=TABLE, phantom=PHANTOM) -> SampleDataset:
    return SampleDataset(filepath=str(folder), phantom=phantom, dataset=dataset)


def test_two_entries_share_a_sample_that_the_first_load_makes(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "phantom"
    table, files = sample(folder), sample(folder, FILES)
    assert not folder.exists()
    assert len(table.load()) == 3 * 3 + 8  # three rows a frame, and the faults' rows
    assert files.load()["group"].tolist() == ["case1"] * 4
    assert [message for message in caplog.messages if "phantom of" in message] == caplog.messages[:1]
    assert caplog.messages[0].startswith(f"made a phantom of 4 frames at {folder} in ")


def test_the_sample_is_made_anew_for_other_settings_only(tmp_path):
    folder = tmp_path / "phantom"
    sample(folder).load()
    (folder / "train.csv").write_text("id,class,segmentation\n")
    assert sample(folder).load().empty
    assert len(sample(folder, phantom={**PHANTOM, "dirty": False}).load()) == 9
    assert json.loads((folder / "phantom.json").read_text())["settings"]["dirty"] is False


def test_a_catalog_writes_the_inner_path_in_full(tmp_path):
    entry = {
        "type": "seg_pipeline.datasets.sample.SampleDataset",
        "filepath": str(tmp_path / "phantom"),
        "phantom": PHANTOM,
        "dataset": {**TABLE, "filepath": str(tmp_path / "phantom" / "train.csv"), "load_args": {"dtype": "str"}},
    }
    catalog = DataCatalog.from_config({"raw_metadata": entry})
    assert catalog.exists("raw_metadata")
    assert list(catalog.load("raw_metadata")) == ["id", "class", "segmentation"]
    assert str(catalog["raw_metadata"]._filepath) == str(tmp_path / "phantom" / "train.csv")
    assert entry["dataset"]["filepath"] == str(tmp_path / "phantom" / "train.csv")  # not written into


def test_an_inner_path_elsewhere_is_refused(tmp_path):
    with pytest.raises(ValueError, match="which is not in that folder") as caught:
        sample(tmp_path / "phantom", {**TABLE, "filepath": str(tmp_path / "train.csv")})
    assert str(caught.value) == (
        f"`dataset` of the sample at {tmp_path / 'phantom'} has the filepath {tmp_path / 'train.csv'}, which is "
        f"not in that folder; in the catalog write it in full, as {tmp_path / 'phantom' / 'train.csv'}"
    )


def test_without_a_phantom_the_folder_is_read_as_it_is(tmp_path):
    own = sample(tmp_path, phantom=None)
    assert not own.exists()
    (tmp_path / "train.csv").write_text("id,class,segmentation\na,b,1 2\n")
    assert own.exists()
    assert own.load().to_dict("list") == {"id": ["a"], "class": ["b"], "segmentation": ["1 2"]}
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]


def test_a_folder_of_someone_elses_is_not_replaced(tmp_path):
    (tmp_path / "train.csv").write_text("id\n")
    with pytest.raises(DatasetError, match=r"is not a phantom's folder: of the 1 entries there, such as 'train\.csv'"):
        sample(tmp_path).load()
    assert (tmp_path / "train.csv").read_text() == "id\n"


def test_a_sample_takes_nothing(tmp_path):
    with pytest.raises(DatasetError, match=r"phantom: raw data is only read, and takes no DataFrame$"):
        sample(tmp_path / "phantom").save(pd.DataFrame())


def test_the_preview_shows_the_first_rows(tmp_path):
    shown = sample(tmp_path / "phantom").preview(nrows=2)
    assert shown["columns"] == ["id", "class", "segmentation"]
    assert [row[:2] for row in shown["data"]] == [
        ["case1_day0_slice_0001", "large_bowel"],
        ["case1_day0_slice_0001", "small_bowel"],
    ]


def test_a_sample_travels_to_another_process(tmp_path):
    again = pickle.loads(pickle.dumps(sample(tmp_path / "phantom")))
    assert len(again.load()) == 17
