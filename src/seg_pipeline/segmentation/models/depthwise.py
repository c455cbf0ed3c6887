"""Faster bfloat16 gradients of depthwise convolutions on the CPU.

For 5x5 kernels and strides of 2, oneDNN (torch 2.14, on a processor with avx512_bf16) falls back to a reference kernel
in the backward pass, which takes 72 % of a training step of EfficientNet-lite0. This module computes the same
gradients with convolutions that have fast kernels; ``benchmarks/depthwise.py`` measures the gain.
"""

from typing import Any

import torch
from timm.layers import Conv2dSame, pad_same  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

INPUT, WEIGHT = [True, False, False], [False, True, False]


def replace_slow_convolutions(module: nn.Module) -> nn.Module:
    """Replace the slow convolutions within ``module``; names and weights do not change."""
    for name, child in module.named_children():
        if _has_slow_gradient(child):
            setattr(module, name, FastDepthwiseConv2d(child))  # type: ignore[arg-type]
        else:
            replace_slow_convolutions(child)
    return module


def _has_slow_gradient(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and type(module) in (nn.Conv2d, Conv2dSame)
        and module.groups == module.in_channels == module.out_channels > 1
        and module.bias is None
        and module.dilation == (1, 1)
        and (module.kernel_size, module.stride) in (((5, 5), (1, 1)), ((3, 3), (2, 2)), ((5, 5), (2, 2)))
    )


class FastDepthwiseConv2d(nn.Conv2d):
    """The same convolution, with faster gradients under CPU autocast."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            0 if isinstance(conv, Conv2dSame) else conv.padding,  # type: ignore[arg-type]
            groups=conv.groups,
            bias=False,
            device="meta",
        )
        self.weight, self.same = conv.weight, isinstance(conv, Conv2dSame)

    def forward(self, images: Tensor) -> Tensor:
        if self.same:
            images = pad_same(images, self.kernel_size, self.stride)  # type: ignore[arg-type]
        if images.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            return _DepthwiseConvolution.apply(images.to(dtype), self.weight.to(dtype), self.stride[0], self.padding[0])
        return super().forward(images)


class _DepthwiseConvolution(Function):
    """Depthwise convolution of images (B, C, H, W) with kernels (C, 1, k, k)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(images, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        images, weight = ctx.saved_tensors
        stride, padding, size = ctx.stride, ctx.padding, weight.shape[-1]
        grad = grad.contiguous(memory_format=torch.channels_last)
        if stride == 1:
            image_grad = _gradients(grad, images, weight, 1, padding, INPUT)[0]
            weight_grad = _weight_gradient_5x5(grad, images, weight, padding)
        elif size == 3:
            dilated = _dilate(grad, images, stride, padding, size)
            image_grad = _gradients(dilated, images, weight, 1, padding, INPUT)[0]
            weight_grad = _gradients(grad, images, weight, stride, padding, WEIGHT)[1]
        else:  # oneDNN's float32 kernel is fast
            output_mask = [True, True, False]
            image_grad, weight_grad, _ = _gradients(
                grad.float(), images.float(), weight.float(), stride, padding, output_mask
            )
        return image_grad.to(images.dtype), weight_grad.to(weight.dtype), None, None


def _gradients(grad: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int, output_mask: list[bool]) -> Any:
    geometry = [stride] * 2, [padding] * 2, [1, 1]
    return torch.ops.aten.convolution_backward(
        grad, images, weight, None, *geometry, False, [0, 0], len(weight), output_mask
    )


def _dilate(grad: Tensor, images: Tensor, stride: int, padding: int, size: int) -> Tensor:
    """Insert zeros between the gradients, as if the convolution had stride 1."""
    height, width = (side + 2 * padding - size + 1 for side in images.shape[-2:])
    shape = (*grad.shape[:2], height, width)
    dilated = torch.empty(shape, dtype=grad.dtype, memory_format=torch.channels_last).zero_()
    dilated[:, :, ::stride, ::stride] = grad
    return dilated


def _weight_gradient_5x5(grad: Tensor, images: Tensor, weight: Tensor, padding: int) -> Tensor:
    """Gradient of a 5x5 kernel, assembled from four 3x3 kernels that overlap in one row and column."""
    padded, kernel = F.pad(images, [padding] * 4), weight[..., :3, :3].contiguous()
    height, width = (side + 2 for side in grad.shape[-2:])
    result = torch.empty_like(weight)
    for row in (0, 2):
        for column in (0, 2):
            window = padded[:, :, row : row + height, column : column + width]
            window = window.contiguous(memory_format=torch.channels_last)
            result[:, :, row : row + 3, column : column + 3] = _gradients(grad, window, kernel, 1, 0, WEIGHT)[1]
    return result
