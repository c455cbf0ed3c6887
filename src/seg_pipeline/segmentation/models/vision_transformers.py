"""Plain vision transformers as encoders, in smp's DPT (Ranftl et al. 2021, arXiv:2103.13413)."""

import math
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS, FUSED = (1024, 1024, 512, 256), 256
"""Widths of the DPT of the paper, deepest first."""


def build_dpt(
    encoder: str, weights: Any, in_channels: int, num_classes: int, decoder_channels: Sequence[int] | None = None
) -> nn.Module:
    """A DPT for images whose sides are multiples of 16, or of the patch size if that is larger.

    smp's decoder works on a grid of 8, 16 or 32 pixels. For patches of 14 pixels, images are scaled by 14/16 first, so
    that each patch covers 16 pixels of the image. Position embeddings are interpolated to the size of the image.

    Raises:
        ValueError: ``encoder`` is not a vision transformer of timm.
    """
    if not encoder.startswith("tu-"):
        raise ValueError(_unsupported(encoder))
    channels, fused = decoder_channels or CHANNELS, (decoder_channels or [FUSED])[0]
    build = partial(
        smp.DPT,
        encoder,
        encoder_weights=weights,
        in_channels=in_channels,
        classes=num_classes,
        decoder_intermediate_channels=channels[::-1],
        decoder_fusion_channels=fused,
        num_classes=0,  # of the encoder's classifier, which is not used
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Encoder does not have prefix tokens")
        try:
            model: Any = build(dynamic_img_size=True)
        except TypeError:  # encoders that accept any size lack the keyword
            model = build()
    strides = set(model.encoder.output_strides)
    if len(strides) > 1:
        raise ValueError(_unsupported(encoder))
    patch, grid = model.encoder.output_stride, 2 ** math.ceil(math.log2(model.encoder.output_stride))
    if patch != grid:
        model.encoder.output_stride, model.encoder.output_strides = grid, [grid] * len(channels)
        model.encoder.register_forward_pre_hook(partial(_scale_images, patch / grid))
        model.decoder = DPTDecoder(
            encoder_out_channels=model.encoder.out_channels,
            encoder_output_strides=model.encoder.output_strides,
            encoder_has_prefix_tokens=model.encoder.has_prefix_tokens,
            readout="cat",
            intermediate_channels=channels[::-1],
            fusion_channels=fused,
        )
        smp.base.initialization.initialize_decoder(model.decoder)
    return model


def _unsupported(encoder: str) -> str:
    return (
        f"architecture: 'dpt' needs a plain vision transformer of timm, such as tu-vit_small_patch16_dinov3, not "
        f"{encoder}; for this encoder set `training.model.architecture: unet`"
    )


def _scale_images(factor: float, _: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
    return (F.interpolate(arguments[0], scale_factor=factor, mode="bilinear"),)
