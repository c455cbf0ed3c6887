"""Rewrite a trained network with plain operations only, which exporters support."""

import copy
from typing import cast

import torch
from timm.layers import Conv2dSame  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.nn import functional as F

from seg_pipeline.segmentation.models.depthwise import FastDepthwiseConv2d
from seg_pipeline.segmentation.models.segmenter import Segmenter


class Deployable(nn.Module):
    """Maps uint8 images (B, K, H, W), sides multiples of 32, to the Segmenter's float32 logits (B, channels, H, W).

    It is a copy without custom gradients and memory formats, and with constant padding. TensorFlow's padding depends
    on the image size, and torch.export with dynamic sizes does not finish on it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.net = plain(copy.deepcopy(model.net)).to(memory_format=torch.contiguous_format)
        self.register_buffer("mean", model.mean.clone())
        self.register_buffer("std", model.std.clone())
        with torch.no_grad():  # some networks output less than the full resolution
            probe = self.net.eval()(model.mean.new_zeros(1, model.mean.shape[1], 64, 64))
        self.is_coarse = probe.shape[-1] != 64
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.net((images.float() / 255 - self.mean) / self.std)
        return F.interpolate(logits, images.shape[-2:], mode="bilinear") if self.is_coarse else logits


class HalfPrecision(nn.Module):
    """The network computed in bfloat16, as autocast does on a processor that supports it."""

    def __init__(self, network: Deployable) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return cast(Tensor, self.network(images)).float()


class Clamp(nn.Module):
    """Same as nn.Hardtanh, which makes torch.export with dynamic sizes a hundred times slower."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


class AveragePool(nn.Module):
    """Same as nn.AdaptiveAvgPool2d, whose windows depend on the image size, which ONNX does not support."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, x: Tensor) -> Tensor:
        return _mean_of_bins(self.rows, x.shape[-2]) @ x @ _mean_of_bins(self.columns, x.shape[-1]).T


def _mean_of_bins(number: int, length: int) -> Tensor:
    """Matrix (number, length) that averages values in ``number`` bins, which overlap if they are not equal."""
    bins, places = torch.arange(number)[:, None], torch.arange(length)
    ends = ((bins + 1) * length + number - 1) // number
    inside = ((places >= bins * length // number) & (places < ends)).float()
    return inside / inside.sum(1, keepdim=True)


def plain(module: nn.Module) -> nn.Module:
    """Replace modules that exporters do not support, or only slowly; same results for sides of 32, 64, ..."""
    for name, child in module.named_children():
        if isinstance(child, FastDepthwiseConv2d | Conv2dSame):
            setattr(module, name, _plain_convolution(child))
        elif isinstance(child, nn.Hardtanh):  # ReLU6 among them
            setattr(module, name, Clamp(child.min_val, child.max_val))
        elif isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
            size = child.output_size
            setattr(module, name, AveragePool(*(size if isinstance(size, tuple) else (size, size))))  # type: ignore[arg-type]
        else:
            plain(child)
    return module


def _plain_convolution(conv: nn.Conv2d) -> nn.Module:
    same = isinstance(conv, Conv2dSame) or getattr(conv, "same", False)
    new = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        0 if same else conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        conv.groups,
        conv.bias is not None,
        device="meta",
    )
    new.weight, new.bias = conv.weight, conv.bias
    return nn.Sequential(nn.ZeroPad2d(_same_padding(conv)), new) if same else new


def _same_padding(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """Left, right, top, bottom of "same" padding for images whose sides are multiples of the stride."""
    spans = zip(conv.kernel_size[::-1], conv.stride[::-1], conv.dilation[::-1], strict=True)
    width, height = (max((kernel - 1) * dilation + 1 - stride, 0) for kernel, stride, dilation in spans)
    return width // 2, width - width // 2, height // 2, height - height // 2
