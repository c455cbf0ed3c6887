"""Augmentation: named presets of torchvision v2 transforms, or an Albumentations pipeline from a file.

Geometric transforms apply to image and truth alike; pixels from outside the image become ``IGNORE`` in the truth.
Randomness comes from torch's global generator, which the data set seeds for each sample.
Axes: K channels of the image, C classes, H rows, W columns.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from seg_pipeline.segmentation.images.masks import IGNORE

Augmentation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_augmentation(name: str, *, rgb: bool = True) -> Augmentation | None:
    """Build a preset that transforms an image, uint8 (K, H, W), and its truth, uint8 (C, H, W) or (H, W).

    Returns None for "none".

    "light": horizontal flips. "medical": small rotations, shifts and zooms, brightness, contrast and gamma, some blur
    and noise; no flips, because left and right differ in a body. "street": flips, zooms, colour.

    Args:
        rgb: whether the channels are red, green and blue, so that saturation may change.

    Raises:
        ValueError: unknown preset.
    """
    if name not in PRESETS:
        raise ValueError(f"augmentation {name!r} is unknown; expected one of {', '.join(PRESETS)}")
    steps = PRESETS[name](rgb)
    return partial(_augment, v2.Compose(steps)) if steps else None


def _augment(transform: nn.Module, image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    return transform(tv_tensors.Image(image), tv_tensors.Mask(truth))


# OpenCV's uint8 operations take a quarter of the time of torchvision's, which compute in floating point. Samples
# are channels-last in memory, as OpenCV expects, and stay so.


class _Warp(v2.Transform):
    """Flip, rotation, shift and zoom in one resampling."""

    def __init__(self, *, degrees: float, shift: float, zoom: float, mirror: bool = False) -> None:
        super().__init__()
        self.degrees, self.shift, self.zoom, self.mirror = degrees, shift, zoom, mirror

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = flat_inputs[0].shape[-2:]
        turn, right, down, grow, flip = (2 * torch.rand(5, dtype=torch.float64) - 1).tolist()
        angle, scale = math.radians(self.degrees) * turn, self.zoom**-grow
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        side = -1 if self.mirror and flip < 0 else 1
        back = np.array([[side * cos, side * sin], [-sin, cos]])  # maps output to input coordinates
        centre = np.array([width - 1, height - 1]) / 2
        moved = centre + self.shift * np.array([width * right, height * down])
        return {"matrix": np.column_stack([back, centre - back @ moved])}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        height, width = inpt.shape[-2:]
        is_truth = isinstance(inpt, tv_tensors.Mask)
        warp = partial(
            cv2.warpAffine,
            M=params["matrix"],
            dsize=(width, height),
            flags=cv2.WARP_INVERSE_MAP | (cv2.INTER_NEAREST if is_truth else cv2.INTER_LINEAR),
            borderValue=IGNORE if is_truth else 0,
        )
        if is_truth:
            return tv_tensors.Mask(_each_plane(inpt, warp))
        picture = _picture(inpt)  # OpenCV's border value covers at most 4 channels
        return _image([warp(np.ascontiguousarray(picture[..., at : at + 4])) for at in range(0, len(inpt), 4)], inpt)


class _OfImage(v2.Transform):
    """A transform that changes only the image, not the truth."""

    def transform(self, inpt: Any, _params: dict[str, Any]) -> Any:
        return inpt if isinstance(inpt, tv_tensors.Mask) else _image([self.change(_picture(inpt))], inpt)

    def change(self, picture: np.ndarray) -> np.ndarray:
        """Transform uint8 (H, W, K)."""
        raise NotImplementedError


class _Tone(_OfImage):
    """Brightness, contrast and, for a fraction of the images, gamma: one lookup table of 256 values."""

    def __init__(self, *, brightness: float, contrast: float, gamma: float = 1, share: float = 0) -> None:
        super().__init__()
        self.brightness, self.contrast, self.gamma, self.share = brightness, contrast, gamma, share

    def change(self, picture: np.ndarray) -> np.ndarray:
        light, spread, curve, chance = torch.rand(4).tolist()
        rows = picture.reshape(len(picture), -1)
        gain = _around(self.contrast, spread)
        mean = cv2.mean(rows)[0]
        levels = _around(self.brightness, light) * (gain * np.arange(256) + (1 - gain) * mean)
        if chance < self.share:
            levels = 255 * (levels.clip(0, 255) / 255) ** self.gamma ** (2 * curve - 1)
        return cv2.LUT(rows, levels.round().clip(0, 255).astype(np.uint8))


class _Colour(_OfImage):
    """Brightness, contrast and saturation of an RGB image in one affine map of colours."""

    def __init__(self, *, brightness: float, contrast: float, saturation: float) -> None:
        super().__init__()
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation

    def change(self, picture: np.ndarray) -> np.ndarray:
        light, spread, depth = torch.rand(3).tolist()
        gain, depth = _around(self.contrast, spread), _around(self.saturation, depth)
        mix = depth * np.eye(3) + (1 - depth) * GREY
        offset = (1 - gain) * float(GREY @ cv2.mean(picture)[:3])
        matrix = _around(self.brightness, light) * np.column_stack([gain * mix, np.full(3, offset)])
        return cv2.transform(picture, matrix)


GREY = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in luma (ITU-R BT.601)."""


class _Blur(_OfImage):
    """Gaussian blur of ``low`` to ``high`` pixels, for a fraction of the images."""

    def __init__(self, *, low: float, high: float, share: float) -> None:
        super().__init__()
        self.low, self.high, self.share = low, high, share

    def change(self, picture: np.ndarray) -> np.ndarray:
        chance, width = torch.rand(2).tolist()
        if chance >= self.share:
            return picture
        return cv2.GaussianBlur(picture, (5, 5), self.low + (self.high - self.low) * width)


class _Noise(_OfImage):
    """Gaussian noise of up to ``most`` grey levels, the same in all channels, for a fraction of the images."""

    def __init__(self, *, most: float, share: float) -> None:
        super().__init__()
        self.most, self.share = most, share

    def change(self, picture: np.ndarray) -> np.ndarray:
        chance, level = torch.rand(2).tolist()
        if chance >= self.share:
            return picture
        noise = (self.most * level * torch.randn(picture.shape[:2])).numpy()
        return cv2.add(picture, cv2.merge([noise] * picture.shape[2]), dtype=cv2.CV_8U)


def _around(width: float, drawn: float) -> float:
    """Map a random number from 0..1 to a factor from 1 - width to 1 + width."""
    return 1 + width * (2 * drawn - 1)


def _picture(image: Tensor) -> np.ndarray:
    """Convert (K, H, W) to (H, W, K), without a copy if the memory is channels-last."""
    last = image.permute(1, 2, 0)
    # copying with NumPy would take ten times as long
    return last.numpy() if last.is_contiguous() else np.atleast_3d(cv2.merge(list(image.numpy())))


def _image(parts: list[np.ndarray], like: Tensor) -> Tensor:
    """Join pictures, each with some of the channels, to (K, H, W). OpenCV drops the axis of a single channel."""
    channels, height, width = like.shape
    picture = parts[0] if len(parts) == 1 else np.dstack(parts)
    return tv_tensors.Image(torch.from_numpy(picture.reshape(height, width, channels)).permute(2, 0, 1))


def _each_plane(truth: Tensor, change: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """Apply ``change`` to each plane (H, W) of the truth."""
    planes = truth.contiguous().numpy().reshape(-1, *truth.shape[-2:])
    return torch.from_numpy(np.stack([change(plane) for plane in planes]).reshape(truth.shape))


PRESETS: dict[str, Callable[[bool], list[nn.Module]]] = {
    "none": lambda _: [],
    "light": lambda _: [v2.RandomHorizontalFlip()],
    # blur, noise and gamma as in nnU-Net (Isensee et al. 2021, supplement), but with less noise
    "medical": lambda _: [
        _Warp(degrees=10, shift=0.06, zoom=1.15),
        _Tone(brightness=0.1, contrast=0.2, gamma=1.5, share=0.3),
        _Blur(low=0.5, high=1.0, share=0.2),
        _Noise(most=10, share=0.15),
    ],
    "street": lambda rgb: [
        _Warp(degrees=3, shift=0.1, zoom=1.4, mirror=True),
        _Colour(brightness=0.3, contrast=0.3, saturation=0.3) if rgb else _Tone(brightness=0.3, contrast=0.3),
    ],
}


def albumentations_augmentation(path: str | Path) -> Augmentation:
    """Load a pipeline written by ``albumentations.save``, as YAML or JSON (by the file's extension).

    Truth that the pipeline pads or erases becomes ``IGNORE``; truth is never interpolated.

    Raises:
        ValueError: Albumentations is not installed, the file is not such a pipeline, or (when called) the pipeline
            changes a sample's size.
    """
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it looks for newer versions online
    try:
        import albumentations
    except ModuleNotFoundError as error:
        raise ValueError(
            f"`training.sampling.albumentations: {path}` needs the package albumentations ({error}); "
            "run `pip install seg_pipeline[albumentations]`, or choose a preset with `augmentation`"
        ) from None
    try:
        pipeline = albumentations.from_dict(_declared(_read(Path(path))))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: not a pipeline that albumentations {albumentations.__version__} can read "
            f"({type(error).__name__}: {error}); write it with `albumentations.save(pipeline, path, data_format=...)`"
        ) from error
    return partial(_albument, pipeline, str(path))


def _read(path: Path) -> Any:
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"the file name ends in {path.suffix!r}, expected .yaml, .yml or .json")
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _declared(saved: Any) -> Any:
    """Set the pipeline to pad truth with ``IGNORE``, to interpolate it by nearest neighbour, and to send no telemetry.

    AlbumentationsX, which has the same file format, would otherwise report each pipeline to its vendor.
    """
    if isinstance(saved, list):
        return [_declared(part) for part in saved]
    if not isinstance(saved, dict):
        return saved
    own = {"fill_mask": IGNORE, "mask_interpolation": cv2.INTER_NEAREST, "telemetry": False}
    moves = "border_mode" in saved  # in other transforms null leaves the truth unchanged
    return {
        key: own[key] if key in own and (moves or value is not None) else _declared(value)
        for key, value in saved.items()
    }


def _albument(pipeline: Any, path: str, image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    seed = int(torch.randint(2**62, ()))
    # not `set_random_seed`, whose result depends on the DataLoader worker
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    done = pipeline(image=_picture(image), mask=_picture(truth.reshape(-1, *truth.shape[-2:])))
    shapes = done["image"].shape[:2], done["mask"].shape[:2]
    if set(shapes) != {tuple(image.shape[1:])} or done["image"].dtype != np.uint8:
        raise ValueError(
            f"{path}: returns an image {done['image'].dtype} {shapes[0]} and a mask {shapes[1]} for a sample uint8 "
            f"{tuple(image.shape[1:])}; leave resizing, cropping and normalising to `input`"
        )
    picture, mask = (np.ascontiguousarray(np.atleast_3d(done[name])) for name in ("image", "mask"))
    planes = torch.from_numpy(mask).permute(2, 0, 1).reshape(truth.shape)
    return _image([picture], image), tv_tensors.Mask(planes.contiguous())
