"""The pipelines export and inference on an untrained network, through Kedro's runner and catalog classes."""

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from kedro_datasets.pandas import ParquetDataset
from pydantic import ValidationError

from seg_pipeline.datasets.bundle import BundleDataset
from seg_pipeline.datasets.folder import FolderDataset
from seg_pipeline.params import ExportParams, InferenceParams
from seg_pipeline.pipelines import export, inference
from seg_pipeline.segmentation.export import reduced_precision
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing
from seg_pipeline.segmentation.settings.training import ParitySettings, PredictSettings, ScoreSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.state import start

pytestmark = pytest.mark.slow


def catalog(checkpoint, manifest, tmp_path, *, formats=("safetensors",), **params):
    values = {
        "checkpoint": checkpoint,
        "chosen_postprocessing": {"settings": Postprocessing.none(2, 0.4).to_dict()},
        "train_val_images": manifest[manifest["split"] != "test"],
        "params:prediction": PredictSettings(tta="horizontal"),
        "params:scores": ScoreSettings(aggregation="dataset"),
        "params:export": ExportParams(formats=list(formats), **params),
    }
    folder = FolderDataset(filepath=str(tmp_path / "draft"))
    bundle = BundleDataset(filepath=str(tmp_path / "bundle"))
    parity = ParquetDataset(filepath=str(tmp_path / "parity.parquet"))
    memory = {name: MemoryDataset(value) for name, value in values.items()}
    return DataCatalog({**memory, "unverified_bundle": folder, "bundle": bundle, "export_parity": parity})


def test_export_makes_a_bundle_that_agrees_with_the_checkpoint(checkpoint, manifest, tmp_path):
    entries = catalog(checkpoint, manifest, tmp_path, parity=ParitySettings(images=2, scales=(1.0,)))
    SequentialRunner().run(export.create_pipeline(), entries)
    bundle = entries["bundle"].load()
    assert (bundle.formats, bundle.prediction.tta) == (("safetensors",), "horizontal")
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


@pytest.fixture(scope="module")
def ensemble(checkpoint):
    """Of two folds, whose untrained networks differ."""
    tiny = TrainingConfig.from_dict(checkpoint["config"])
    other = start(tiny.changed({"seed": 6}), "", torch.device("cpu")).best_model()
    return {**checkpoint, "folds": 2, "models": [*checkpoint["models"], {"config": tiny.to_dict(), **other}]}


@pytest.mark.slow
def test_folds_in_int8_and_bf16_from_checkpoint_to_masks(ensemble, manifest, tmp_path, monkeypatch):
    """Of the Dice as trained, in int8 and in bf16 the last is too low: bf16 is left out, of both folds."""
    found = iter([0.9, 0.899, 0.894])
    monkeypatch.setattr(
        reduced_precision, "mean_dice", lambda masks, rows, _: next(found) if len(list(masks)) == len(rows) == 3 else 0
    )
    small = ParitySettings(images=1, scales=(1.0,), batch_sizes=(1,))
    formats = ["onnx", "int8", "bf16"]
    entries = catalog(ensemble, manifest, tmp_path, formats=formats, calibration_images=2, parity=small)
    SequentialRunner().run(export.create_pipeline(), entries)
    bundle = entries["bundle"].load()
    assert {one.name for one in bundle.folder.iterdir()} == {
        "bundle.json", "model.onnx", "model.int8.onnx", "model_2.onnx", "model_2.int8.onnx",
    }  # fmt: skip
    assert bundle.formats == ("onnx", "int8")
    assert (bundle.provenance["folds"], len(bundle.provenance["models"])) == (2, 2)
    assert bundle.provenance["quality"] == {"max_drop": 0.005, "num_images": 3, "split": "val", "formats": [
        {"format": "int8", "kept": True, "dice": 0.899, "dice_trained": 0.9},
        {"format": "bf16", "kept": False, "dice": 0.894, "dice_trained": 0.9},
    ]}  # fmt: skip
    parity = entries["export_parity"].load().set_index("format")
    assert (parity["ok"].to_dict(), parity["exact"].to_dict()) == (
        {"onnx": True, "int8": True},
        {"onnx": True, "int8": False},
    )
    assert parity["logit_difference"]["onnx"] < 1e-5 < parity["logit_difference"]["int8"]

    given = {"images": str(tmp_path / "list.parquet"), "prediction": PredictSettings(tta="horizontal")}
    mine, _ = infer(ensemble, None, manifest.head(3), tmp_path, **given)
    first, _ = infer(
        ensemble,
        None,
        manifest.head(3),
        tmp_path,
        output_folder=str(tmp_path / "first"),
        **{**given, "prediction": PredictSettings(ensemble="first")},
    )
    theirs, _ = infer(
        None, bundle.folder, manifest.head(3), tmp_path, model="bundle", output_folder=str(tmp_path / "b"), **given
    )
    eight, _ = infer(
        None,
        bundle.folder,
        manifest.head(3),
        tmp_path,
        model="bundle",
        bundle_format="int8",
        output_folder=str(tmp_path / "8"),
        **given,
    )
    np.testing.assert_allclose(theirs["peak"], mine["peak"], atol=1e-5)
    assert (mine["peak"] - first["peak"]).abs().max() > 1e-3  # the other fold votes
    assert 0 < (eight["peak"] - mine["peak"]).abs().max() < 0.1


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
    theirs, _ = infer(
        None, bundle_folder, manifest.head(3), tmp_path, model="bundle", output_folder=str(tmp_path / "b"), **given
    )
    assert (len(mine), len(findings)) == (6, 0)
    pd.testing.assert_frame_equal(mine, theirs, rtol=1e-3)
    assert (tmp_path / "inference" / "rle_masks.csv").exists()
    assert (tmp_path / "b" / "areas.csv").exists()


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, "`inference.images` must say what to predict"),
        ({"images": "x"}, "there is no trained model: run `kedro run --pipeline training` first"),
        ({"images": "x", "model": "bundle"}, "there is no exported model: run `kedro run --pipeline export` first"),
        ({"images": "x", "model": "/nowhere"}, "nowhere: no bundle there"),
    ],
)
def test_what_is_missing_is_named(manifest, tmp_path, params, text):
    with pytest.raises(ValueError, match=text):
        infer(None, None, manifest.head(1), tmp_path, **params)


@pytest.mark.parametrize(
    ("formats", "text"),
    [
        (["int8"], "int8 is made from onnx; add onnx"),
        (["bf16"], "bf16 is omitted if it lowers Dice too much; add one that is always exported, such as onnx"),
        (["onnx", "onnx"], "must not repeat a format, found onnx, onnx"),
    ],
)
def test_formats_that_do_not_go_together(formats, text):
    with pytest.raises(ValidationError, match=text):
        ExportParams(formats=formats)


def test_annotations_of_a_trained_model_are_an_input_again(checkpoint, manifest, tmp_path):
    from seg_pipeline.params import AnnotateParams
    from seg_pipeline.pipelines import annotate
    from seg_pipeline.segmentation.formats.coco import read_coco

    manifest.head(3).to_parquet(tmp_path / "list.parquet")
    values = {
        "trained_checkpoint": checkpoint,
        "exported_bundle": None,
        "chosen_postprocessing": None,
        "params:prediction": PredictSettings(),
        "params:inference": InferenceParams(device="cpu", images=str(tmp_path / "list.parquet")),
        "params:annotate": AnnotateParams(images="copy", shapes="masks", polygon_iou=0.9),
        "annotation_folder": tmp_path / "out",
    }
    names = ["annotation_polygons", "unpredicted_images"]
    entries = DataCatalog({
        **{name: MemoryDataset(value) for name, value in values.items()}, **{name: MemoryDataset() for name in names}
    })  # fmt: skip
    SequentialRunner().run(annotate.create_pipeline(), entries)
    polygons = entries["annotation_polygons"].load()
    assert set(polygons["tool"]) == {"via"}  # the others have masks
    assert polygons["iou"].min() >= 0.9
    assert entries["unpredicted_images"].load().empty
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "coco.json", "cvat.xml", "cvat_labels.json", "images", "label_studio.json", "label_studio.xml", "labelme",
        "predicted", "via.json",
    }  # fmt: skip
    table = read_coco(tmp_path / "out/coco.json", tmp_path / "out/images")
    areas = pd.read_csv(tmp_path / "out/predicted/areas.csv")
    assert table["problem"].isna().all()
    for row in areas.itertuples():
        drawn = table[(table["image_id"] == row.image_id) & (table["class"] == row._5)]
        assert sum(sum(map(int, mask.split()[1::2])) for mask in drawn["mask"]) == row.area
