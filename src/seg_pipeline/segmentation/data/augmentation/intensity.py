"""Intensity augmentation, applied to the image only.

Axes: B images, K channels, H rows, W columns. Parameters of a batch are columns (B, 1, 1, 1).
"""

from functools import cache
from typing import ClassVar, Self

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from seg_pipeline.segmentation.data.randomness import uniforms


class Intensity:
    """A step that changes only the image."""

    num_random_values: ClassVar[int]
    num_parameters: ClassVar[int]

    def draw(self, random_values: np.ndarray, _shape: tuple[int, int]) -> np.ndarray:
        """Turn random numbers in [0, 1), (num_random_values, B), into parameters, (num_parameters, B)."""
        raise NotImplementedError

    def change(self, picture: np.ndarray, *values: float) -> np.ndarray:
        """Change uint8 (H, W, K), in place where possible, because allocating memory takes longer than the change."""
        raise NotImplementedError

    def change_batch(self, images: Tensor, *values: Tensor) -> Tensor:
        """Change float32 (B, K, H, W) of whole numbers from 0 to 255, and return such values."""
        raise NotImplementedError

    def to(self, _device: torch.device | str) -> Self:
        """The same step for batches on a device."""
        return self


class Tone(Intensity):
    """Brightness, contrast and, for a fraction of the images, gamma.

    Parameters: scale, offset as a share of the mean, exponent, and scale after it.
    """

    num_random_values, num_parameters = 4, 4

    def __init__(self, *, brightness: float, contrast: float, gamma: float = 1, share: float = 0) -> None:
        self.brightness, self.contrast, self.gamma, self.share = brightness, contrast, gamma, share

    def draw(self, random_values: np.ndarray, _shape: tuple[int, int]) -> np.ndarray:
        light, gain = _around(self.brightness, random_values[0]), _around(self.contrast, random_values[1])
        exponent = np.where(random_values[3] < self.share, self.gamma ** (2 * random_values[2] - 1), 1)
        return np.stack([light * gain, light * (1 - gain), exponent, 255 ** (1 - exponent)])

    def change(self, picture: np.ndarray, *values: float) -> np.ndarray:
        scale, offset, exponent, factor = values
        rows = picture.reshape(len(picture), -1)
        offset *= cv2.sumElems(rows)[0] / rows.size  # cv2.mean takes three times as long
        if exponent == 1:
            cv2.addWeighted(rows, scale, rows, 0, offset, dst=rows)
        else:  # one lookup table of 256 values
            levels = factor * (scale * np.arange(256) + offset).clip(0, 255) ** exponent
            cv2.LUT(rows, levels.round().astype(np.uint8), dst=rows)
        return picture

    def change_batch(self, images: Tensor, *values: Tensor) -> Tensor:
        scale, offset, exponent, factor = values
        changed = torch.addcmul(offset * images.mean((1, 2, 3), keepdim=True), images, scale).clamp_(0, 255)
        return (changed.pow_(exponent).mul_(factor) if self.share else changed).round_()


RED, GREEN, BLUE = 0.299, 0.587, 0.114
"""Weights of the channels in luma (ITU-R BT.601)."""


class Colour(Intensity):
    """Brightness, contrast and saturation of an RGB image.

    Parameters: scale, scale of the luma, and offset as a share of the luma's mean.
    """

    num_random_values = num_parameters = 3

    def __init__(self, *, brightness: float, contrast: float, saturation: float) -> None:
        self.widths = brightness, contrast, saturation

    def draw(self, random_values: np.ndarray, _shape: tuple[int, int]) -> np.ndarray:
        light, gain, depth = (_around(width, drawn) for width, drawn in zip(self.widths, random_values, strict=True))
        return np.stack([light * gain * depth, light * gain * (1 - depth), light * (1 - gain)])

    def change(self, picture: np.ndarray, *values: float) -> np.ndarray:
        scale, grey, offset = values
        red, green, blue = RED * grey, GREEN * grey, BLUE * grey
        sums = cv2.sumElems(picture)
        offset *= (RED * sums[0] + GREEN * sums[1] + BLUE * sums[2]) / (len(picture) * picture.shape[1])
        matrix = [[scale + red, green, blue, offset],
                  [red, scale + green, blue, offset],
                  [red, green, scale + blue, offset]]  # fmt: skip
        return cv2.transform(picture, np.array(matrix), dst=picture)

    def change_batch(self, images: Tensor, *values: Tensor) -> Tensor:
        scale, grey, offset = values
        red, green, blue = images.split(1, dim=1)
        luma = (RED * red).add_(green, alpha=GREEN).add_(blue, alpha=BLUE)
        shift = torch.addcmul(offset * luma.mean((2, 3), keepdim=True), luma, grey)
        return torch.addcmul(shift, images, scale).round_().clamp_(0, 255)


class Blur(Intensity):
    """Gaussian blur of ``low`` to ``high`` pixels, for a fraction of the images.

    Parameters: weights of the pixel itself and of those one and two pixels away.
    """

    num_random_values, num_parameters = 2, 3

    def __init__(self, *, low: float, high: float, share: float) -> None:
        self.low, self.high, self.share = low, high, share

    def draw(self, random_values: np.ndarray, _shape: tuple[int, int]) -> np.ndarray:
        width = self.low + (self.high - self.low) * random_values[1]
        near = np.where(random_values[0] < self.share, np.exp(-0.5 / width**2), 0)
        far = near**4
        return np.stack([np.ones_like(near), near, far]) / (1 + 2 * (near + far))

    def change(self, picture: np.ndarray, *values: float) -> np.ndarray:
        middle, near, far = values
        kernel = np.array([far, near, middle, near, far])
        return cv2.sepFilter2D(picture, -1, kernel, kernel, dst=picture) if near else picture

    def change_batch(self, images: Tensor, *values: Tensor) -> Tensor:
        middle, near, far = values
        images = functional.pad(images, (2, 2, 2, 2), mode="reflect")
        for axis in (2, 3):
            one, two, three, four, five = (images.narrow(axis, at, images.shape[axis] - 4) for at in range(5))
            images = (middle * three).addcmul_(two + four, near).addcmul_(one + five, far)
        return images.round_()


class Noise(Intensity):
    """Gaussian noise of up to ``most`` grey levels, the same in all channels, for a fraction of the images.

    Parameters: its standard deviation, or 0, and its start in ``noise_table``, from which the noise is read row by row.
    This costs one read per pixel, and gives the same noise on every device.
    """

    num_random_values, num_parameters = 3, 2

    def __init__(self, *, most: float, share: float) -> None:
        self.most, self.share = most, share
        self.table = torch.from_numpy(noise_table())

    def draw(self, random_values: np.ndarray, _shape: tuple[int, int]) -> np.ndarray:
        chance, level, position = random_values
        return np.stack([np.where(chance < self.share, self.most * level, 0), np.floor(position * NOISE_LENGTH)])

    def change(self, picture: np.ndarray, *values: float) -> np.ndarray:
        level, start = values
        if not level:
            return picture
        height, width, channels = picture.shape
        first_part = noise_table()[int(start) : int(start) + height * width]
        noise = np.concatenate([first_part, np.resize(noise_table(), height * width - len(first_part))]).reshape(
            height, width
        )
        noises = cv2.merge([noise] * channels)
        return cv2.addWeighted(picture, 1, noises, level, 0, dst=picture, dtype=cv2.CV_8U)

    def change_batch(self, images: Tensor, *values: Tensor) -> Tensor:
        level, start = values
        height, width = images.shape[-2:]
        positions = torch.arange(height * width, device=images.device).reshape(height, width)
        noise = self.table[(start.long() + positions) & (NOISE_LENGTH - 1)]
        return torch.addcmul(images, noise, level).round_().clamp_(0, 255)

    def to(self, device: torch.device | str) -> Self:
        moved = type(self)(most=self.most, share=self.share)
        moved.table = self.table.to(device)
        return moved


NOISE_LENGTH = 2**18


@cache
def noise_table() -> np.ndarray:
    """Fixed numbers of the standard normal distribution: float32 (NOISE_LENGTH,).

    They are rounded to 1/1024, so that differences between machines in the last digits of the logarithm vanish.
    """
    first, second = uniforms(0, np.arange(NOISE_LENGTH)[:, None], 2).T
    normal = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)
    return (np.round(normal * 1024) / 1024).astype(np.float32)


def _around(width: float, drawn: np.ndarray) -> np.ndarray:
    """Map random numbers from 0..1 to factors from 1 - width to 1 + width."""
    return 1 + width * (2 * drawn - 1)
