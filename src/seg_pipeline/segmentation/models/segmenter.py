"""A network with its preprocessing and postprocessing: stored images in, masks out.

Axes: B images, K channels of the logits, C classes, H rows, W columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_pipeline.segmentation.data.normalisation import mean_std
from seg_pipeline.segmentation.metrics.overlap import Counts, count, count_labels
from seg_pipeline.segmentation.models.depthwise import replace_slow_convolutions
from seg_pipeline.segmentation.models.features import FeatureLayout
from seg_pipeline.segmentation.models.networks import build_model, encoder_normalisation
from seg_pipeline.segmentation.settings.training_config import TrainingConfig


class Segmenter(nn.Module):
    """Maps uint8 images (B, channels, H, W) to float32 logits (B, K, H, W).

    In training mode it returns logits of every ``loss.pixel_stride``-th pixel only, equal to those in evaluation. The
    normalisation is part of the module (buffers), so that it cannot differ between training and prediction.

    With a frozen encoder, ``forward`` also accepts the rows that ``encode`` returns, and runs only the decoder.

    Args:
        config: network, task and classes.
        pretrained: load the encoder weights that the configuration names; False if a checkpoint's weights follow.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: TrainingConfig, *, pretrained: bool) -> None:
        super().__init__()
        self.task, self.num_classes, self.background = config.task, len(config.classes), config.background
        self.frozen = config.optimizer.freeze_encoder
        model = config.model
        self.stride, self.size = config.loss.pixel_stride, config.input.size
        self.layout: FeatureLayout | None = None
        net = build_model(
            model.architecture,
            encoder=model.encoder,
            encoder_weights=model.encoder_weights if pretrained else None,
            in_channels=config.input.num_channels,
            num_classes=config.num_channels,
            decoder_channels=model.decoder_channels,
            decoder_norm=model.decoder_norm,
        )
        self.net = replace_slow_convolutions(net).to(memory_format=torch.channels_last)
        mean, std = mean_std(config.input, encoder_normalisation(model.encoder, model.encoder_weights))
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def train(self, mode: bool = True) -> Segmenter:
        super().train(mode)
        if self.frozen:
            self.net.get_submodule("encoder").eval()  # batch norm keeps its running statistics too
        return self

    def encode(self, images: Tensor) -> Tensor:
        """The encoder's features of images (B, channels, *input.size), one row per image: (B, F)."""
        scaled = self._normalise(images)
        features = self.net.encoder(scaled)  # type: ignore[operator]
        self.layout = self.layout or FeatureLayout(features, scaled)
        return self.layout.rows(features)

    def _normalise(self, images: Tensor) -> Tensor:
        return ((images.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim == 2:
            assert self.layout is not None, "`encode` sets the layout of the rows"
            logits, shape = self.layout.decode(self.net, images).float(), self.size
        else:
            logits, shape = self.net(self._normalise(images)).float(), (images.shape[-2], images.shape[-1])
        if self.training and self.stride > 1 and self.stride * logits.shape[-1] == shape[-1]:
            return logits_at_cell_pixels(logits, self.stride)
        logits = logits if logits.shape[-2:] == shape else F.interpolate(logits, shape, mode="bilinear")
        return self.subsample(logits)

    def subsample(self, pixels: Tensor) -> Tensor:
        """In training, keep pixel ``stride // 2`` of every ``stride`` in the rows and columns of (..., H, W)."""
        stride = self.stride
        return pixels[..., stride // 2 :: stride, stride // 2 :: stride] if self.training and stride > 1 else pixels

    def masks(self, logits: Tensor, *, threshold: float) -> Tensor:
        """Bool masks (B, C, H, W). ``threshold`` is a probability; only multilabel tasks use it."""
        if self.task == "multilabel":
            return logits[:, : self.num_classes] > math.log(threshold / (1 - threshold))
        winner = logits.argmax(1, keepdim=True)
        return winner == torch.arange(self.num_classes, device=logits.device).view(1, -1, 1, 1) + int(self.background)

    def counts(self, logits: Tensor, truth: Tensor, *, threshold: float) -> Counts:
        """Count overlap with the ground truth: (B, C, H, W) for multilabel, (B, H, W) for multiclass."""
        if self.task == "multilabel":
            return count(self.masks(logits, threshold=threshold), truth[:, : self.num_classes])
        return count_labels(logits.argmax(1), truth, num_classes=self.num_classes, background=self.background)


def logits_at_cell_pixels(logits: Tensor, stride: int) -> Tensor:
    """Logits (B, K, h, w) of cells of ``stride`` x ``stride`` pixels, at pixel ``stride // 2`` of each cell.

    That pixel lies half a pixel beyond the cell's centre, so its logits mix in a little of the next cell's: the same as
    bilinear upsampling to all pixels, without computing the others.
    """
    for axis in (-2, -1):
        last = logits.shape[axis] - 1
        following = torch.cat([logits.narrow(axis, 1, last), logits.narrow(axis, last, 1)], axis)
        logits = logits.lerp(following, 0.5 / stride)
    return logits
