import json
import shutil

import pytest

from seg_pipeline.datasets.bundle import BundleDataset
from seg_pipeline.segmentation.prediction.bundle import Bundle


@pytest.fixture
def draft(bundle_folder, tmp_path):
    return Bundle.read(shutil.copytree(bundle_folder, tmp_path / "draft"))


def test_a_saved_bundle_is_moved_and_loads_where_it_is(draft, tmp_path):
    dataset = BundleDataset(filepath=str(tmp_path / "model" / "bundle"))
    assert not dataset.exists()
    dataset.save(draft)
    assert dataset.exists()
    assert not (tmp_path / "draft").exists()
    loaded = dataset.load()
    assert loaded.folder == tmp_path / "model" / "bundle"
    assert loaded.paths("onnx") == [tmp_path / "model" / "bundle" / "model.onnx"]


def test_a_bundle_takes_the_place_of_the_one_before(draft, tmp_path):
    place = tmp_path / "bundle"
    place.mkdir()
    (place / "model_2.onnx").write_text("of a training with folds")
    BundleDataset(filepath=str(place)).save(draft)
    assert not (place / "model_2.onnx").exists()
    assert [one.name for one in tmp_path.iterdir()] == ["bundle"]


def test_it_may_be_missing_where_that_is_said(tmp_path):
    assert BundleDataset(filepath=str(tmp_path / "bundle"), missing_ok=True).load() is None
    with pytest.raises(Exception, match="no bundle there"):
        BundleDataset(filepath=str(tmp_path / "bundle")).load()


def test_kedro_viz_shows_the_description(draft, tmp_path):
    dataset = BundleDataset(filepath=str(tmp_path / "bundle"))
    dataset.save(draft)
    assert json.loads(dataset.preview()) == json.loads((tmp_path / "bundle" / "bundle.json").read_text())
