"""The pipelines export and inference on an untrained network, through Kedro's runner and catalog classes."""

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from kedro_datasets.pandas import ParquetDataset

from seg_pipeline.datasets.bundle import BundleDataset
from seg_pipeline.datasets.folder import FolderDataset
from seg_pipeline.params import ExportParams, InferenceParams
from seg_pipeline.pipelines import export, inference
from seg_pipeline.segmentation.bundle import ParitySettings
from seg_pipeline.segmentation.postprocess import Postprocessing
from seg_pipeline.segmentation.settings import PredictSettings, ScoreSettings


def catalog(checkpoint, manifest, tmp_path, **params):
    values = {
        "checkpoint": checkpoint,
        "chosen_postprocessing": {"settings": Postprocessing.none(2, 0.4).to_dict()},
        "development": manifest[manifest["split"] != "test"],
        "params:prediction": PredictSettings(tta="horizontal"),
        "params:scores": ScoreSettings(aggregation="dataset"),
        "params:export": ExportParams(forms=["safetensors"], **params),
    }
    folder = FolderDataset(filepath=str(tmp_path / "draft"))
    bundle = BundleDataset(filepath=str(tmp_path / "bundle"))
    parity = ParquetDataset(filepath=str(tmp_path / "parity.parquet"))
    memory = {name: MemoryDataset(value) for name, value in values.items()}
    return DataCatalog({**memory, "bundle_draft": folder, "bundle": bundle, "export_parity": parity})


def test_export_makes_a_bundle_that_agrees_with_the_checkpoint(checkpoint, manifest, tmp_path):
    entries = catalog(checkpoint, manifest, tmp_path, parity=ParitySettings(images=2, scales=(1.0,)))
    SequentialRunner().run(export.create_pipeline(), entries)
    bundle = entries["bundle"].load()
    assert (bundle.forms, bundle.prediction.tta) == (("safetensors",), "horizontal")
    assert bundle.postprocessing.thresholds == (0.4, 0.4)
    parity = entries["export_parity"].load()
    assert (parity["logit_difference"] < 1e-5).all()
    assert parity["batch_size"].tolist() == [1, 3]


def test_a_bundle_beyond_the_limits_does_not_replace_the_one_before(checkpoint, manifest, tmp_path, monkeypatch):
    from seg_pipeline.segmentation.export import parity

    monkeypatch.setattr(parity, "_differences", lambda *_: {
        "logit_difference": 0.5, "pixel_share": 0.0, "dice_trained": 0.9, "dice_exported": 0.9, "dice_difference": 0.0,
    })  # fmt: skip
    settings = ParitySettings(images=1, scales=(1.0,), batch_sizes=(1,))
    entries = catalog(checkpoint, manifest, tmp_path, parity=settings)
    with pytest.raises(ValueError, match=r"1 of 1 comparisons .* logits differ by 0.5 .*The bundle was not replaced"):
        SequentialRunner().run(export.create_pipeline(), entries)
    assert not (tmp_path / "bundle").exists()
    assert entries["export_parity"].load()["ok"].tolist() == [False]


def infer(checkpoint, bundle_folder, manifest, tmp_path, **params):
    manifest.to_parquet(tmp_path / "list.parquet")
    values = {
        "trained_checkpoint": checkpoint,
        "chosen_postprocessing": None,
        "params:prediction": PredictSettings(),
        "params:inference": InferenceParams(formats=["rle"], device="cpu", **params),
        "exported_bundle": BundleDataset(filepath=str(bundle_folder)).load() if bundle_folder else None,
        "inference_folder": tmp_path / "inference",
    }
    names = ["inference_areas", "inference_findings"]
    entries = DataCatalog({
        **{name: MemoryDataset(value) for name, value in values.items()}, **{name: MemoryDataset() for name in names}
    })  # fmt: skip
    SequentialRunner().run(inference.create_pipeline(), entries)
    return [entries[name].load() for name in names]


def test_checkpoint_and_bundle_give_the_same(checkpoint, bundle_folder, manifest, tmp_path):
    given = {"images": str(tmp_path / "list.parquet")}
    mine, findings = infer(checkpoint, None, manifest.head(3), tmp_path, **given)
    theirs, _ = infer(None, bundle_folder, manifest.head(3), tmp_path, model="bundle", out=str(tmp_path / "b"), **given)
    assert (len(mine), len(findings)) == (6, 0)
    pd.testing.assert_frame_equal(mine, theirs, rtol=1e-3)
    assert (tmp_path / "inference" / "submission.csv").exists()
    assert (tmp_path / "b" / "areas.csv").exists()


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, "`inference.images` says what to predict"),
        ({"images": "x"}, "there is no trained model: run `kedro run --pipeline training` first"),
        ({"images": "x", "model": "bundle"}, "there is no exported model: run `kedro run --pipeline export` first"),
        ({"images": "x", "model": "/nowhere"}, "nowhere: no bundle there"),
    ],
)
def test_what_is_missing_is_named(manifest, tmp_path, params, text):
    with pytest.raises(ValueError, match=text):
        infer(None, None, manifest.head(1), tmp_path, **params)
