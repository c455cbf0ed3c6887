"""The presets: parameters are drawn for many samples at once, then applied per image or per batch.

Axes: B images, P parameters, K channels of the image, C classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from itertools import accumulate, pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from seg_pipeline.segmentation.data.augmentation.geometric import Flip, Warp
from seg_pipeline.segmentation.data.augmentation.intensity import Blur, Colour, Intensity, Noise, Tone
from seg_pipeline.segmentation.data.augmentation.pictures import to_image, to_picture
from seg_pipeline.segmentation.data.randomness import uniforms


class Augmentation(Protocol):
    """A random change of samples, split into drawing its parameters and applying them."""

    @property
    def num_parameters(self) -> int:
        """P."""

    def draw(self, seed: int, keys: np.ndarray, shape: tuple[int, int], /) -> np.ndarray:
        """Draw the parameters of samples of ``shape`` with these keys, int64 (B, k): float32 (B, P)."""

    def apply(self, image: Tensor, truth: Tensor, parameters: np.ndarray, /) -> tuple[Tensor, Tensor]:
        """Return changed copies of an image, uint8 (K, H, W), and its truth, uint8 (C, H, W) or (H, W), on the CPU."""


class Preset:
    """A flip or warp of image and truth, then changes of the image's intensities.

    ``apply`` is the reference, with OpenCV for one sample on the CPU. ``apply_batch`` does the same in torch for a
    batch on any device. With OpenCV 5, 1 in 5,000 values differs by more than one grey level; with OpenCV 4, which
    rounds positions to 1/32 of a pixel, by more than four.
    """

    def __init__(self, geometry: Flip | Warp, *changes: Intensity) -> None:
        self.geometry, self.changes = geometry, changes

    @property
    def num_parameters(self) -> int:
        return sum(step.num_parameters for step in (self.geometry, *self.changes))

    def draw(self, seed: int, keys: np.ndarray, shape: tuple[int, int], /) -> np.ndarray:
        steps = self.geometry, *self.changes
        ends = list(accumulate((step.num_random_values for step in steps), initial=0))
        random_values = uniforms(seed, keys, ends[-1]).T
        parameters = [
            step.draw(random_values[start:end], shape) for step, (start, end) in zip(steps, pairwise(ends), strict=True)
        ]
        return np.concatenate(parameters).T.astype(np.float32, order="C")

    def apply(self, image: Tensor, truth: Tensor, parameters: np.ndarray, /) -> tuple[Tensor, Tensor]:
        values = iter(parameters.tolist())
        planes = truth.contiguous().numpy().reshape(-1, *truth.shape[-2:])
        original = to_picture(image)
        picture, planes = self.geometry.change(original, planes, *_next(self.geometry, values))
        if picture is original and self.changes:
            picture = original.copy()  # they work in place
        for step in self.changes:
            picture = step.change(picture, *_next(step, values))
        return to_image(picture), torch.from_numpy(planes).reshape(truth.shape)

    def apply_batch(self, images: Tensor, truth: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Change images, uint8 (B, K, H, W), and their truth, uint8 (B, C, H, W) or (B, H, W), on their device.

        It neither waits for the device nor branches on values, so that it can be compiled and captured as a CUDA graph.
        Neutral parameters leave a sample unchanged. The images keep their memory format.

        Args:
            parameters: float32 (B, P) on the device of the images; the preset must be there too (see ``to``).
        """
        columns = iter(parameters[:, :, None, None, None].unbind(1))
        planes = truth if truth.ndim == 4 else truth[:, None]
        moved, planes = self.geometry.change_batch(images, planes, *_next(self.geometry, columns))
        for step in self.changes:
            moved = step.change_batch(moved, *_next(step, columns))
        return torch.empty_like(images).copy_(moved), planes.reshape(truth.shape)

    def to(self, device: torch.device | str) -> Preset:
        """The same preset for batches on a device."""
        moved = copy(self)
        moved.changes = tuple(step.to(device) for step in self.changes)
        return moved


def _next(step: Flip | Warp | Intensity, values: Iterator[Any]) -> list[Any]:
    return [next(values) for _ in range(step.num_parameters)]


PRESETS: dict[str, Callable[[bool], Preset | None]] = {
    "none": lambda _: None,
    "light": lambda _: Preset(Flip()),
    # blur, noise and gamma as in nnU-Net (Isensee et al. 2021, supplement), but with less noise
    "medical": lambda _: Preset(
        Warp(degrees=10, shift=0.06, zoom=1.15),
        Tone(brightness=0.1, contrast=0.2, gamma=1.5, share=0.3),
        Blur(low=0.5, high=1.0, share=0.2),
        Noise(most=10, share=0.15),
    ),
    "street": lambda rgb: Preset(
        Warp(degrees=3, shift=0.1, zoom=1.4, mirror=True),
        Colour(brightness=0.3, contrast=0.3, saturation=0.3) if rgb else Tone(brightness=0.3, contrast=0.3),
    ),
    "microscopy": lambda rgb: Preset(
        Warp(degrees=180, shift=0.06, zoom=1.25, mirror=True),
        Colour(brightness=0.2, contrast=0.3, saturation=0.3) if rgb else Tone(brightness=0.2, contrast=0.3),
        Blur(low=0.5, high=1.5, share=0.2),
        Noise(most=10, share=0.15),
    ),
}


def make_augmentation(name: str, *, rgb: bool = True) -> Preset | None:
    """Build a preset; None for "none".

    "light": horizontal flips. "medical": small rotations, shifts and zooms, brightness, contrast and gamma, some blur
    and noise; no flips, because left and right differ in a body. "street": flips, zooms, colour. "microscopy": any
    turn, flips, zooms, colour, some blur and noise.

    Args:
        rgb: whether the channels are red, green and blue, so that saturation may change.

    Raises:
        ValueError: unknown preset.
    """
    if name not in PRESETS:
        raise ValueError(f"augmentation {name!r} is unknown; expected one of {', '.join(PRESETS)}")
    return PRESETS[name](rgb)
