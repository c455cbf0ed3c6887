"""Which modules of a network keep their pretrained weights."""

from typing import Any

import torch

from seg_pipeline.segmentation.settings.training import OptimizerSettings

SIDE = 64
"""Height and width of the image by which the weights of the first stages are found."""


def frozen_modules(net: Any, settings: OptimizerSettings, in_channels: int) -> list[str]:
    """Names of the modules of an smp network whose weights and batch statistics ``settings`` keep fixed.

    The modules of the first stages are those that the features of their size depend on, so that no encoder's layers
    have to be listed.

    Raises:
        ValueError: the encoder has no stages, like a plain vision transformer.
    """
    if settings.freeze_encoder:
        return ["encoder"]
    if not settings.frozen_stages:
        return []
    early = [one for one in _features(net.encoder, in_channels) if one.shape[-1] << settings.frozen_stages >= SIDE]
    if not early:
        return []
    owners = {
        weight: name for name, module in net.encoder.named_modules() for weight in module.parameters(recurse=False)
    }
    gradients = torch.autograd.grad([one.sum() for one in early], list(owners), allow_unused=True)
    found = [name for name, gradient in zip(owners.values(), gradients, strict=True) if gradient is not None]
    return [f"encoder.{name}" for name in dict.fromkeys(found) if name]


def _features(encoder: Any, in_channels: int) -> list[torch.Tensor]:
    training = encoder.training
    try:
        found = encoder.eval()(torch.zeros(1, in_channels, SIDE, SIDE))  # eval: batch norm takes one image
        return [one for one in found if one.requires_grad]
    except (AssertionError, AttributeError, RuntimeError):
        raise ValueError(
            "`training.optimizer.frozen_stages`: this encoder has no stages, because its features are all of one size; "
            "set it to 0, or `training.optimizer.freeze_encoder: true`"
        ) from None
    finally:
        encoder.train(training)
