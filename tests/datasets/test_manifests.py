"""Manifests of other environments."""

import re

import pandas as pd
import pytest
from kedro.io import DatasetError

from seg_pipeline.datasets.manifests import ManifestsDataset


def test_each_source_is_loaded_under_its_name(tmp_path):
    for number, name in enumerate("ab"):
        pd.DataFrame({"image_id": [name], "width": number}).to_parquet(tmp_path / f"{name}.parquet")
    dataset = ManifestsDataset(sources={name: str(tmp_path / f"{name}.parquet") for name in "ba"})
    assert {name: table["width"].tolist() for name, table in dataset.load().items()} == {"b": [1], "a": [0]}
    assert dataset.exists()


def test_a_missing_manifest_is_named_with_the_command_that_makes_it(tmp_path):
    dataset = ManifestsDataset(sources={"clinic": str(tmp_path / "m.parquet")})
    message = f"source clinic: no manifest {tmp_path}/m.parquet; make it with `kedro run --env clinic --pipeline data_"
    with pytest.raises(DatasetError, match=re.escape(message)):
        dataset.load()
    assert not dataset.exists()


def test_manifests_of_others_are_never_written():
    with pytest.raises(DatasetError, match="manifests of other data sets are read-only; cannot save data of type dict"):
        ManifestsDataset(sources={}).save({})
