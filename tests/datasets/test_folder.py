import pytest
from kedro.io import DatasetError

from seg_pipeline.datasets.folder import FolderDataset


def test_the_folder_is_made_on_load(tmp_path):
    dataset = FolderDataset(filepath=str(tmp_path / "deep" / "cache"))
    assert not dataset.exists()
    assert dataset.load() == tmp_path / "deep" / "cache"
    assert dataset.exists()
    assert dataset.missing_ok


def test_a_folder_is_no_output(tmp_path):
    with pytest.raises((ValueError, DatasetError), match="a folder cannot be an output"):
        FolderDataset(filepath=str(tmp_path)).save(3)
