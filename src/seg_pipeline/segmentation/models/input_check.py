"""Check before a run, without computing anything, that a network accepts the images of its configuration."""

from dataclasses import replace
from functools import lru_cache

import torch
from torch import nn

from seg_pipeline.segmentation.models.encoder_weights import is_weight_file
from seg_pipeline.segmentation.models.networks import build_model
from seg_pipeline.segmentation.settings.training import ModelSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig

LARGEST_SIDE = 1024


def min_batch_size(config: TrainingConfig) -> int:
    """Smallest number of images per training step: 2 if batch norm would see one value per channel, else 1.

    Raises:
        ValueError: the network does not accept ``input.size``, or the file of ``model.encoder_weights`` does not fit.
    """
    model, frozen = config.model, config.optimizer.freeze_encoder
    if config.start.checkpoint or not is_weight_file(model.encoder_weights):
        model = replace(model, encoder_weights=None)
    return _min_batch_size(model, config.input.size, config.input.num_channels, config.num_channels, frozen)


@lru_cache(maxsize=32)
def _min_batch_size(
    model: ModelSettings, size: tuple[int, int], in_channels: int, num_classes: int, frozen: bool
) -> int:
    network = build_model(
        model.architecture,
        encoder=model.encoder,
        encoder_weights=model.encoder_weights,
        in_channels=in_channels,
        num_classes=num_classes,
        decoder_channels=model.decoder_channels,
        decoder_norm=model.decoder_norm,
    )
    network.get_submodule("encoder").train(not frozen)
    shape = (in_channels, *size)
    if _forward_error(network, (1, *shape)) is None:
        return 1
    error = _forward_error(network, (2, *shape))
    if error is None:
        return 2
    fixed = getattr(network.encoder, "input_size", None)  # some vision transformers accept only this size
    sizes = _larger_sizes(size) if fixed is None else [fixed[1:], *_larger_sizes(size)]
    larger = next((side for side in sizes if _forward_error(network, (2, in_channels, *side)) is None), None)
    remedy = f"{larger[0]} x {larger[1]} would do" if larger else "choose another architecture or encoder"
    raise ValueError(
        f"`training.input.size`: {model.architecture} with {model.encoder} takes no images of {size[0]} x {size[1]} "
        f"({error}); {remedy}"
    )


def _larger_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    factors = [factor for factor in range(2, LARGEST_SIDE // 32) if factor * max(size) <= LARGEST_SIDE]
    return [(factor * size[0], factor * size[1]) for factor in factors]


def _forward_error(network: nn.Module, shape: tuple[int, ...]) -> str | None:
    """Error of a forward pass on images of this shape; None if it works."""
    try:
        network.to("meta")(torch.empty(shape, device="meta"))
    except (RuntimeError, ValueError, AssertionError) as error:
        message = str(error).partition("\n")[0] or type(error).__name__
        return None if "meta" in message else message  # an operator without meta support says nothing about the size
    return None
