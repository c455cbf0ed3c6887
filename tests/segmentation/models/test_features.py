"""Features of a frozen encoder, computed once per image."""

import copy
import logging
from contextlib import nullcontext

import pytest
import torch

from seg_pipeline.segmentation.data.loaders import make_loaders
from seg_pipeline.segmentation.models import features
from seg_pipeline.segmentation.models.features import FeatureLoader, with_features
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.training.run import train

CPU = torch.device("cpu")
RAM = ComputeSettings(cache="ram", save_minutes=None)


@pytest.fixture(scope="module")
def frozen(config):
    return config.changed({"optimizer.freeze_encoder": True, "sampling.augmentation": "none", "fit.epochs": 2})


def end_of(manifest, config, compute, folder=None):
    *_, end = train(manifest, config, compute, cache_folder=folder)
    return end


def cached(manifest, config, compute, folder=None):
    loaders = make_loaders(manifest, config, compute, device=CPU, cache_folder=folder)
    model = Segmenter(config, pretrained=False)
    return with_features(loaders, [model], config, compute, device=CPU, folder=folder, autocast=nullcontext)


ARCHITECTURES = ["unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3plus", "pan", "upernet",
                 "segformer", "dpt"]  # fmt: skip


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_decoder_gives_the_same_logits_from_rows(config, architecture):
    size = (128, 128) if architecture == "pan" else (64, 96)
    encoder = "tu-test_vit" if architecture == "dpt" else "tu-test_efficientnet"
    changed = config.changed(
        {
            "model.architecture": architecture,
            "model.encoder": encoder,
            "input.size": size,
            "model.decoder_channels": (16, 8, 8, 8) if architecture in ("unet", "dpt") else None,
        }
    )
    model = Segmenter(changed, pretrained=False).eval()
    images = torch.randint(256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        rows = model.encode(images)
        assert torch.allclose(model(rows), model(images), atol=1e-5)
        assert rows.ndim == 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_frozen_training_is_the_same_with_features(manifest, frozen, precision, caplog):
    changed = frozen.changed({"fit.precision": precision, "fit.ema": 0.9})
    with caplog.at_level(logging.INFO):
        one = end_of(manifest, changed, RAM)
    other = end_of(manifest, changed, ComputeSettings(cache="none", save_minutes=None))
    assert "features of 10 train images" in caplog.text
    assert caplog.text.count("computed once and kept in memory") == 2
    within = 1e-4 if precision == "float32" else 3e-2
    for column in ("train_loss", "val_loss"):
        assert one.history[column].tolist() == pytest.approx(other.history[column].tolist(), abs=within)
    mine, theirs = (end.best["models"][0]["model"] for end in (one, other))
    encoder = [name for name in mine if ".encoder." in name]
    assert encoder
    assert all(torch.equal(mine[name], theirs[name]) for name in encoder)


@pytest.mark.parametrize("change", [{"sampling.augmentation": "light"}, {"sampling.mix": "mixup"}])
def test_train_images_that_change_are_encoded_in_every_epoch(manifest, frozen, caplog, change):
    with caplog.at_level(logging.INFO):
        loaders = cached(manifest, frozen.changed(change), RAM)
    assert isinstance(loaders.val, FeatureLoader)
    assert not isinstance(loaders.train.loader, FeatureLoader)
    assert "`training.sampling.augmentation: none` and `mix: none` to compute their features once" in caplog.text


@pytest.mark.parametrize("changes", [{"optimizer.freeze_encoder": False}, {"input.resize_mode": "crop"}])
def test_other_trainings_have_no_features(manifest, frozen, changes):
    assert not isinstance(cached(manifest, frozen.changed(changes), RAM).val, FeatureLoader)


def test_features_that_memory_does_not_hold_are_in_a_file_that_goes_with_them(manifest, frozen, tmp_path, monkeypatch):
    disk = ComputeSettings(cache="disk", save_minutes=None)
    loaders = cached(manifest, frozen, disk, tmp_path)
    assert not list(tmp_path.glob("features_*"))
    in_memory = cached(manifest, frozen, RAM)
    for one, other in zip(loaders.val, in_memory.val, strict=True):
        assert [part.shape for part in one] == [part.shape for part in other]
        assert torch.equal(one[1], other[1])
    monkeypatch.setattr(features, "pick_mode", lambda *_, **__: "none")
    assert not isinstance(cached(manifest, frozen, RAM).val, FeatureLoader)


def test_it_resumes_exactly(manifest, frozen):
    often = ComputeSettings(cache="ram", save_minutes=0)
    moments = train(manifest, frozen, often)
    saved = copy.deepcopy([next(moments) for _ in range(3)][-1].last)
    *_, end = moments
    *_, resumed = train(manifest, frozen, often, saved=saved)
    mine, theirs = (one.last["current"]["model"] for one in (end, resumed))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
