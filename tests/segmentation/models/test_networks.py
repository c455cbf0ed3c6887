import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from matplotlib import cbook

from seg_pipeline.segmentation.models.encoder_weights import PACKAGED_ENCODER, packaged_weights
from seg_pipeline.segmentation.models.networks import (
    build_model,
    encoder_normalisation,
)

# One image of three channels, not square; 97 and 83 are multiples of nothing.
IMAGE = torch.rand(1, 3, 97, 83, generator=torch.Generator().manual_seed(0))


def lite0(architecture="unet", *, in_channels=3, encoder_weights="imagenet", **options):
    return build_model(
        architecture,
        encoder=PACKAGED_ENCODER,
        encoder_weights=encoder_weights,
        in_channels=in_channels,
        num_classes=2,
        **options,
    ).eval()


@pytest.fixture(scope="module")
def pretrained():
    return lite0()


@pytest.fixture(scope="module")
def classifier():
    """timm's own network, with all 296 weights of the package."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(packaged_weights())
    return model.eval()


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


# The packaged weights


def test_all_288_encoder_weights_come_from_the_package(pretrained):
    loaded, packaged = pretrained.encoder.model.state_dict(), packaged_weights()
    assert len(loaded) == 288
    assert all(torch.equal(weight, packaged[name]) for name, weight in loaded.items())
    assert sorted(packaged.keys() - loaded.keys()) == [
        "bn2.bias",
        "bn2.num_batches_tracked",
        "bn2.running_mean",
        "bn2.running_var",
        "bn2.weight",
        "classifier.bias",
        "classifier.weight",
        "conv_head.weight",
    ]


def test_encoder_features_equal_those_of_timm(pretrained, classifier):
    ours = pretrained.encoder(IMAGE)[1:]  # without the image itself
    theirs = classifier.forward_intermediates(IMAGE, indices=5, intermediates_only=True)
    assert [tuple(features.shape[1:]) for features in ours] == [
        (16, 49, 42),
        (24, 25, 21),
        (40, 13, 11),
        (112, 7, 6),
        (320, 4, 3),
    ]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_the_weights_know_imagenet(classifier):
    """matplotlib's sample portrait is an admiral in uniform: ImageNet's class 652, "military uniform"."""
    bgr = cv2.imread(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    rgb = cv2.cvtColor(cv2.resize(bgr, (224, 224), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
    mean, std = (np.array(values, dtype=np.float32) for values in encoder_normalisation(PACKAGED_ENCODER, "imagenet"))
    image = torch.from_numpy((rgb.astype(np.float32) / 255 - mean) / std).permute(2, 0, 1)[None]
    prob = classifier(image).softmax(1)[0]
    assert prob.argmax() == 652
    assert prob[652] == pytest.approx(0.45, abs=0.05)


def test_one_channel_sees_what_three_equal_ones_see(pretrained):
    grey = IMAGE[:, :1]
    ours, expected = lite0(in_channels=1).encoder(grey), pretrained.encoder(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(ours[1:], expected[1:], rtol=0, atol=1e-4)


def test_five_channels_repeat_the_stem_at_the_same_scale(pretrained):
    stem, rgb = lite0(in_channels=5).encoder.model.conv_stem.weight, pretrained.encoder.model.conv_stem.weight
    torch.testing.assert_close(stem, rgb[:, [0, 1, 2, 0, 1]] * 3 / 5)


def test_without_weights_the_encoder_is_random(pretrained):
    stem = lite0(encoder_weights=None).encoder.model.conv_stem.weight
    assert not torch.allclose(stem, pretrained.encoder.model.conv_stem.weight, atol=0.1)


# Shapes


@pytest.mark.parametrize("shape", [(96, 80), (97, 83), (33, 17)])
def test_unet_takes_any_size(pretrained, shape):
    assert pretrained(torch.zeros(2, 3, *shape)).shape == (2, 2, *shape)


def test_other_architectures_name_the_next_size_that_fits():
    model = lite0("fpn", encoder_weights=None)
    assert model(torch.zeros(1, 3, 96, 64)).shape == (1, 2, 96, 64)
    with pytest.raises(RuntimeError, match=r"divisible by 32\. Consider pad your images to shape \(128, 96\)"):
        model(torch.zeros(1, 3, 97, 83))


def test_decoder_channels_set_the_width_of_each_block():
    model = lite0(encoder_weights=None, decoder_channels=[40, 24, 16, 12, 8])
    assert [block.conv2[0].out_channels for block in model.decoder.blocks] == [40, 24, 16, 12, 8]
    assert model(IMAGE).shape == (1, 2, 97, 83)


def test_a_model_is_rebuilt_from_its_keywords_and_weights(pretrained):
    keywords = {
        "architecture": "unet",
        "encoder": PACKAGED_ENCODER,
        "encoder_weights": "imagenet",
        "in_channels": 3,
        "num_classes": 2,
    }
    rebuilt = build_model(**(keywords | {"encoder_weights": None})).eval()
    rebuilt.load_state_dict(pretrained.state_dict())
    assert torch.equal(rebuilt(IMAGE), pretrained(IMAGE))


# Other encoders


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18", "tu-resnet18.a1_in1k", "mit_b0"])
def test_encoders_of_smp_and_timm_build_without_weights(encoder):
    model = build_model("unet", encoder=encoder, encoder_weights=None, in_channels=1, num_classes=3).eval()
    assert model(torch.zeros(1, 1, 64, 96)).shape == (1, 3, 64, 96)


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [(PACKAGED_ENCODER, None), ("tu-resnet18", True), ("resnet18", "imagenet")],
)
def test_other_weights_are_left_to_smp(monkeypatch, encoder, expected):
    """smp warns unless timm's encoders get True; the packaged weights are never downloaded."""
    asked, create_model = [], smp.create_model

    def without_download(architecture, encoder, weights, *args):
        asked.append(weights)
        return create_model(architecture, encoder, None, *args)

    monkeypatch.setattr(smp, "create_model", without_download)
    build_model("unet", encoder=encoder, encoder_weights="imagenet", in_channels=3, num_classes=2)
    assert asked == [expected]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"architecture": "Unet"},
            "^architecture: 'Unet' is unknown; the nearest known ones are unet, manet, ",
        ),
        ({"encoder": "resnet43"}, "^encoder: 'resnet43' is unknown; the nearest known ones are resnet34, "),
        (
            {"encoder": "tu-resnet181"},
            "^encoder: 'tu-resnet181' is unknown; the nearest .* are tu-resnet18, ",
        ),
        (  # smp has it, but its network is not the one that the weights were trained in
            {"encoder": "timm-tf_efficientnet_lite0"},
            "^encoder: 'timm-tf_efficientnet_lite0' is unknown; .* are tu-tf_efficientnet_lite0, ",
        ),
        (
            {"encoder_weights": "advprop"},
            r"^encoder_weights: 'advprop' is unknown for encoder 'tu-tf_efficientnet_lite0'; "
            r"expected null \(random\), one of \['imagenet'\], or a file \(.safetensors, .pt, .pth, .bin\)$",
        ),
        (
            {"encoder": "resnet18", "encoder_weights": "noisy"},
            r"'noisy' is unknown for encoder 'resnet18'; .* one of \['imagenet', 'ssl', 'swsl'\], or a file",
        ),
        (
            {"architecture": "fpn", "decoder_channels": [8, 4]},
            "^decoder_channels: 'fpn' takes none; dpt, manet, unet, unetplusplus do. Set it to null$",
        ),
    ],
)
def test_what_is_unknown_is_refused_by_name(options, text):
    keywords = {
        "architecture": "unet",
        "encoder": PACKAGED_ENCODER,
        "encoder_weights": None,
        "in_channels": 3,
        "num_classes": 1,
    }
    with pytest.raises(ValueError, match=text):
        build_model(**(keywords | options))


# Normalisation

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize(
    ("encoder", "weights", "expected"),
    [
        (PACKAGED_ENCODER, "imagenet", HALF),
        (PACKAGED_ENCODER, None, HALF),
        ("tu-resnet18", "imagenet", IMAGENET),
        ("tu-tf_efficientnet_b0.ap_in1k", "imagenet", HALF),
        ("tu-coatnet_0_224", None, IMAGENET),  # timm has no weights of it
        ("resnet34", "imagenet", IMAGENET),
        ("resnet34", None, IMAGENET),
        ("xception", "imagenet", HALF),
        ("efficientnet-b0", "imagenet", IMAGENET),
        ("efficientnet-b0", "advprop", HALF),
        ("dpn92", "imagenet+5k", ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)),
    ],
)
def test_normalisation_is_that_of_the_encoders_training(encoder, weights, expected):
    assert encoder_normalisation(encoder, weights) == expected
