"""Your own torchvision transforms as an augmentation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from seg_pipeline.segmentation.data.randomness import uniforms


class TorchvisionTransforms:
    """A transform of ``torchvision.transforms.v2`` for one sample on the CPU, image and truth alike.

    Fill the truth with ``IGNORE`` where the transform leaves the image. Parameters: two numbers below 2**24, which
    seed torch's generator for the sample; its state is restored afterwards.
    """

    num_parameters = 2

    def __init__(self, transform: Callable[..., Any]) -> None:
        self.transform = transform

    def draw(self, seed: int, keys: np.ndarray, _shape: tuple[int, int], /) -> np.ndarray:
        return np.floor(uniforms(seed, keys, self.num_parameters) * 2**24).astype(np.float32)

    def apply(self, image: Tensor, truth: Tensor, parameters: np.ndarray, /) -> tuple[Tensor, Tensor]:
        high, low = (int(number) for number in parameters.tolist())
        generator = torch.default_generator
        before = generator.get_state()
        generator.manual_seed(high * 2**24 + low)
        try:
            return self.transform(tv_tensors.Image(image), tv_tensors.Mask(truth))
        finally:
            generator.set_state(before)
