import inspect
from pathlib import Path

import pytest
from kedro.framework.context.context import _convert_paths_to_absolute_posix
from kedro.io import AbstractDataset, DataCatalog, DatasetError, MemoryDataset

from seg_pipeline.datasets.optional import OptionalDataset


def entry(path: str) -> dict:
    return {
        "type": "seg_pipeline.datasets.optional.OptionalDataset",
        "dataset": {"type": "json.JSONDataset", "filepath": path},
    }


def test_it_is_none_until_it_is_saved(tmp_path):
    catalog = DataCatalog.from_config({"best_params": entry(str(tmp_path / "best.json"))})
    assert not catalog.exists("best_params")
    assert catalog.load("best_params") is None
    catalog.save("best_params", {"learning_rate": 0.01})
    assert catalog.exists("best_params")
    assert catalog.load("best_params") == {"learning_rate": 0.01}


def test_kedro_makes_the_nested_path_absolute(tmp_path):
    conf = _convert_paths_to_absolute_posix(tmp_path, {"best_params": entry("data/06_models/best.json")})
    dataset = AbstractDataset.from_config("best_params", conf["best_params"])
    assert Path(dataset._filepath) == tmp_path / "data/06_models/best.json"


def test_a_file_that_is_there_but_damaged_is_an_error(tmp_path):
    (tmp_path / "best.json").write_text("{")
    with pytest.raises(DatasetError, match=r"best\.json"):
        AbstractDataset.from_config("best_params", entry(str(tmp_path / "best.json"))).load()


def test_it_wraps_a_dataset_object_too():
    dataset = OptionalDataset(dataset=MemoryDataset(data=3))
    assert dataset.load() == 3
    dataset.release()
    assert dataset.load() is None
    assert dataset._filepath is None


def test_it_previews_as_what_it_wraps(tmp_path):
    dataset = AbstractDataset.from_config("best_params", entry(str(tmp_path / "best.json")))
    dataset.save({"a": 1})
    assert dataset.preview() == '{"a": 1}'
    assert inspect.signature(dataset.preview).return_annotation == "JSONPreview"
    assert not hasattr(OptionalDataset(dataset=MemoryDataset()), "preview")


def test_its_text_names_what_it_wraps(tmp_path):
    text = str(AbstractDataset.from_config("best_params", entry(str(tmp_path / "best.json"))))
    assert "OptionalDataset(dataset=kedro_datasets.json.json_dataset.JSONDataset" in text
    assert str(tmp_path / "best.json") in text


def test_kedro_viz_is_told_its_file(tmp_path):
    dataset = AbstractDataset.from_config("best_params", entry(str(tmp_path / "best.json")))
    assert dataset._describe()["filepath"] == (tmp_path / "best.json").as_posix()
    assert set(OptionalDataset(dataset=MemoryDataset())._describe()) == {"dataset"}
