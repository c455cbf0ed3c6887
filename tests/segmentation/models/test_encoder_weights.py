"""Weights of an encoder from a file, and vision transformers."""

import re
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file

from seg_pipeline.segmentation.models.input_check import min_batch_size
from seg_pipeline.segmentation.models.networks import build_model
from seg_pipeline.segmentation.models.trained_weights import with_file_hashes
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.training.run import train

KEYWORDS = {"in_channels": 3, "num_classes": 2}


def built(encoder, architecture="unet", weights=None, **options):
    return build_model(architecture, encoder=encoder, encoder_weights=weights, **KEYWORDS | options)


def outputs(network, size=(64, 64)):
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = network.eval().encoder(images)
    return found[0] if isinstance(found, tuple) else found[2:]


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize(("name", "architecture"), [("test_convnext", "unet"), ("test_vit", "dpt")])
def test_a_file_of_timm_gives_timm_s_features(tmp_path, name, architecture, suffix):
    source = timm.create_model(name).eval()
    path = str(tmp_path / f"weights.{suffix}")
    save_file(source.state_dict(), path) if suffix == "safetensors" else torch.save(source.state_dict(), path)
    network = built(f"tu-{name}", architecture, path)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = source.forward_intermediates(images, intermediates_only=True)
    assert torch.allclose(outputs(network)[-1], expected[-1], atol=1e-5)


def test_one_channel_gets_the_sum_of_three(tmp_path):
    source = timm.create_model("test_vit")
    torch.save(source.state_dict(), path := str(tmp_path / "weights.pt"))
    network = built("tu-test_vit", "dpt", path, in_channels=1)
    grey = network.encoder.model.patch_embed.proj.weight
    assert torch.allclose(grey, source.patch_embed.proj.weight.sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: {name: w[name] for name in w if name != "blocks.1.norm1.bias"},
            "1 missing (model.blocks.1.norm1.bias)",
        ),
        (lambda w: {**w, "extra.weight": torch.ones(2)}, "1 unexpected (extra_weight)"),
        (lambda w: {**w, "norm.bias": torch.ones(2)}, "1 of another shape (model.norm.bias (2,) instead of (64,))"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    weights = change(timm.create_model("test_vit").state_dict())
    torch.save(dict(weights), path := str(tmp_path / "weights.pt"))
    with pytest.raises(ValueError, match=re.escape(f"encoder_weights: {path} does not fit tu-test_vit: {message}")):
        built("tu-test_vit", "dpt", path)


def test_files_that_hold_no_weights(tmp_path, config):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ValueError, match="encoder_weights: there is no file"):
        min_batch_size(config.changed({"model.encoder_weights": str(path)}))
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"weights.safetensors cannot be read"):
        min_batch_size(config.changed({"model.encoder_weights": str(path)}))
    torch.save({"a": 1}, odd := str(tmp_path / "odd.pt"))
    with pytest.raises(ValueError, match="contains more than weights by layer name"):
        built("tu-test_convnext", weights=odd)


def test_the_checkpoint_records_the_hash_of_the_file(tmp_path, manifest, config):
    weights = timm.create_model("test_efficientnet").state_dict()
    torch.save(weights, path := str(tmp_path / "weights.pt"))
    changed = config.changed({"model.encoder_weights": path})
    first = next(train(manifest, changed, ComputeSettings(cache="none", save_minutes=0)))
    (digest,) = with_file_hashes(changed).files.values()
    assert first.best["models"][0]["config"]["files"] == {"model.encoder_weights": digest}
    assert len(digest) == 64
    moved = replace(with_file_hashes(changed), model=replace(changed.model, encoder_weights="elsewhere.pt"))
    assert with_file_hashes(changed).differences(moved) == []


@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_patches_of_14_pixels_cover_16_of_the_image(size):
    with torch.device("meta"):
        network = built("tu-vit_small_patch14_dinov2", "dpt", decoder_channels=(8, 8, 8, 8)).eval()
        assert network(torch.empty(1, 3, *size)).shape == (1, 2, *size)
        features, prefix = network.encoder(torch.empty(1, 3, *size))
    assert [tuple(one.shape[2:]) for one in features] == [(size[0] // 16, size[1] // 16)] * 4
    assert len(prefix) == 4


@pytest.mark.parametrize(
    ("architecture", "encoder", "message"),
    [
        ("unet", "tu-test_vit", "architecture: 'unet' needs features of several sizes, but those of tu-test_vit have "
         "one size, as in any plain vision transformer; set `training.model.architecture: dpt`"),
        ("dpt", "tu-test_resnet", "architecture: 'dpt' needs a plain vision transformer of timm, such as "
         "tu-vit_small_patch16_dinov3, not tu-test_resnet; for this encoder set `training.model.architecture: unet`"),
        ("dpt", "resnet18", "not resnet18; for this encoder set `training"),
    ],
)  # fmt: skip
def test_encoders_that_an_architecture_does_not_take(architecture, encoder, message):
    with pytest.raises(ValueError, match="architecture: ") as caught:
        built(encoder, architecture)
    assert message in str(caught.value)


def test_a_transformer_of_one_size_says_which(config):
    fixed = config.changed({"model.architecture": "dpt", "model.encoder": "tu-test_vit_relpos"})
    with pytest.raises(ValueError, match="160 x 160 would do"):
        min_batch_size(fixed)
