"""Parity on real images: the default network with its ImageNet encoder, from file to mask."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from seg_pipeline.segmentation.export import compare_formats, make_bundle, refuse_differences
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images
from seg_pipeline.segmentation.prediction.checkpoint_predictor import describe, load_models
from seg_pipeline.segmentation.settings.training import (
    InputSettings,
    LossSettings,
    ModelSettings,
    ParitySettings,
    ScoreSettings,
)
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.state import start

SHARED = Path(__file__).parents[4] / "shared" / "data"
INPUTS = {
    "abdomen": InputSettings(size=(128, 128), normalisation="percentile", window=(1, 99)),
    "camvid": InputSettings(size=(192, 256), resize_mode="crop", scale=0.8),
}


def manifest_of(name):
    """Images without masks: parity of logits and masks needs no truth."""
    paths = sorted((SHARED / name).rglob("*.png" if name == "abdomen" else "images/*.jpg"))[::20][:8]
    assert paths, f"no image in {SHARED / name}"
    about = [
        {"image_id": path.stem, "row": number, "file": path.name, "path": str(path), "group": "g", "series": "s"}
        for number, path in enumerate(paths)
    ]
    table = pd.DataFrame(about).assign(frame=range(len(about)), mask_a=[[]] * len(about), mask_b=[[]] * len(about))
    measured, _ = measure_images(table, MaskReader({"a": "a", "b": "b"}, "rle"))
    return measured.assign(split="val")


def config_of(name):
    return TrainingConfig(
        task="multilabel" if name == "abdomen" else "multiclass",
        classes=("a", "b"),
        model=ModelSettings(decoder_channels=(32, 16, 16, 8)),
        input=INPUTS[name],
        loss=LossSettings(class_weights="none"),
    )


@pytest.fixture(scope="module")
def trained():
    return start(config_of("abdomen"), "", torch.device("cpu")).best_model()


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """Once for all inputs, as it takes most of the time: only what the network is given differs between them."""
    checkpoint = {"models": [{"config": config_of("abdomen").to_dict(), **trained}]}
    return make_bundle(checkpoint, tmp_path_factory.mktemp("exported"), formats=["onnx"])


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the shared real data is not beside this checkout")
@pytest.mark.parametrize("name", INPUTS)
def test_exported_forms_agree_on_real_images(name, trained, exported):
    checkpoint = {"models": [{"config": config_of(name).to_dict(), **trained}]}
    described = describe(checkpoint, load_models(checkpoint, torch.device("cpu")))
    (network,) = exported.networks
    bundle = replace(described, folder=exported.folder, networks=(replace(described.networks[0], files=network.files),))
    settings = ParitySettings(images=2, scales=(1.0, 1.3), batch_sizes=(1, 2), max_pixel_share=1e-3)
    parity = compare_formats(bundle, checkpoint, manifest_of(name), settings, ScoreSettings())
    refuse_differences(parity)
    assert len(parity) == 2 * 2
