"""A network with all that belongs to it: images as they are stored go in, masks come out.

Axes: B images, K channels of the logits, C classes, H rows, W columns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from seg_pipeline.segmentation.models import build_model, encoder_normalisation
from seg_pipeline.segmentation.recipe import Recipe


class Segmenter(nn.Module):
    """Uint8 images (B, 3, H, W) -> float32 logits (B, K, H, W).

    The normalisation is part of it (buffers), so that it cannot differ between training and prediction.

    Args:
        recipe: names the network, the task and the classes.
        pretrained: load the recipe's encoder weights; a checkpoint's weights come after, so False there.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, recipe: Recipe, *, pretrained: bool) -> None:
        super().__init__()
        self.task, self.num_classes, self.background = recipe.task, len(recipe.classes), recipe.background
        self.net = build_model(
            recipe.architecture,
            encoder=recipe.encoder,
            encoder_weights=recipe.encoder_weights if pretrained else None,
            in_channels=3,
            num_classes=self.num_classes + self.background,
            decoder_channels=recipe.decoder_channels,
        ).to(memory_format=torch.channels_last)
        mean, std = encoder_normalisation(recipe.encoder, recipe.encoder_weights)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        scaled = (images.float() / 255 - self.mean) / self.std
        return self.net(scaled.contiguous(memory_format=torch.channels_last)).float()

    def masks(self, logits: Tensor, *, threshold: float) -> Tensor:
        """Bool masks (B, C, H, W); ``threshold`` is a probability and serves multilabel tasks."""
        if self.task == "multilabel":
            return logits > math.log(threshold / (1 - threshold))
        winner = logits.argmax(1, keepdim=True)
        return winner == torch.arange(self.num_classes, device=logits.device).view(1, -1, 1, 1) + int(self.background)
