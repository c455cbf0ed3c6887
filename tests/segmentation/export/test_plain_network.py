import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from seg_pipeline.segmentation.export import formats
from seg_pipeline.segmentation.export.formats import load_network, write_formats
from seg_pipeline.segmentation.export.plain_network import AveragePool, Deployable, plain
from seg_pipeline.segmentation.models.depthwise import FastDepthwiseConv2d
from seg_pipeline.segmentation.models.segmenter import Segmenter


@pytest.mark.parametrize("channels", [(16, 8, 8, 8, 8), (16, 8, 8)], ids=["full resolution", "ends before"])
def test_the_default_network_of_plain_operations_gives_what_it_gave(config, channels):
    """EfficientNet-lite0 pads as TensorFlow does, by the size of the image."""
    model = Segmenter(config.changed({"model.decoder_channels": channels}), pretrained=False).eval()
    assert any(isinstance(one, FastDepthwiseConv2d) for one in model.modules())
    network = Deployable(model)
    assert not any(isinstance(one, FastDepthwiseConv2d | Conv2dSame) for one in network.modules())
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), model(images), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (5, 1), (3, 1)])
def test_padding_that_depends_on_the_image_becomes_a_number(kernel, stride):
    conv = nn.Sequential(Conv2dSame(2, 4, (kernel, 3), stride, bias=True))
    images = torch.rand(1, 2, 32, 64)
    expected = conv(images)
    torch.testing.assert_close(plain(conv)(images), expected)


def test_the_model_itself_stays_as_it_was(config):
    model = Segmenter(config, pretrained=False)
    Deployable(model)
    assert model.training
    assert any(isinstance(one, FastDepthwiseConv2d) for one in model.modules())


@pytest.mark.parametrize("shape", [(2, 5, 8, 12), (1, 3, 3, 7), (1, 1, 6, 1)])
@pytest.mark.parametrize("size", [2, (3, 6), (6, 6)])
def test_pooling_into_bins_that_depend_on_the_image(size, shape):
    """7 values in 3 bins are 0..2, 2..4 and 4..6: bins overlap."""
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(size))
    images = torch.rand(shape)
    expected = pool(images)
    assert isinstance(plain(pool)[0], AveragePool)
    torch.testing.assert_close(pool(images), expected)


def test_a_format_that_an_exporter_cannot_write_is_named(config, tmp_path, monkeypatch):
    def fails(*_):
        raise NotImplementedError("no such operator\nat line 3")

    monkeypatch.setattr(formats, "write_torchscript", fails)
    with pytest.raises(ValueError, match="does not work") as caught:
        write_formats(Segmenter(config, pretrained=False), {"torchscript": tmp_path / "model.pt"})
    assert str(caught.value) == (
        "`export.formats`: torchscript does not work for this network (NotImplementedError: no such operator); "
        "leave it out"
    )


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["pspnet", "upernet"])
def test_networks_that_pool_into_bins_export_as_onnx(config, architecture, tmp_path):
    names = {"architecture": architecture, "decoder_channels": None, "encoder": "tu-test_resnet"}  # of few operations
    changed = config.changed({f"model.{name}": value for name, value in names.items()})
    model = Segmenter(changed, pretrained=False).eval()
    write_formats(model, {"onnx": tmp_path / "model.onnx"})
    network = load_network(tmp_path / "model.onnx", "onnx", changed)
    for shape in ((1, 3, 160, 64), (3, 3, 64, 96)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        with torch.inference_mode():
            torch.testing.assert_close(torch.from_numpy(network(images.numpy())), model(images), atol=1e-4, rtol=0)
