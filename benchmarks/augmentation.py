"""Our presets (a) and those of the project before it drew parameters apart from applying them (b): one image at a time
with torchvision's transforms and torch's generator. One core, 64 images of 256 x 256 pixels, three channels and three
classes. The batch in torch is meant for a GPU; on a CPU, data sets augment one image at a time with OpenCV.
"""

import hashlib
import math
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before OpenCV and torch read it

import cv2
import numpy as np
import torch
from side_by_side import Result, compare, report
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from seg_pipeline.segmentation.data.augmentation import make_augmentation
from seg_pipeline.segmentation.data.datasets import Draw
from seg_pipeline.segmentation.data.loaders import collate
from seg_pipeline.segmentation.images.masks import IGNORE

SIZE, BATCH, CLASSES = 256, 64, 3
Sample = tuple[Tensor, Tensor]


def samples() -> list[Sample]:
    """Smooth images and blobs, channels-last in memory as data sets give them."""
    rng = np.random.default_rng(0)
    blurred = partial(cv2.GaussianBlur, ksize=(0, 0))
    found = []
    for _ in range(BATCH):
        picture = blurred(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), sigmaX=2)
        masks = blurred(rng.random((SIZE, SIZE, CLASSES)), sigmaX=5) > 0.5
        truth = torch.from_numpy(masks.astype(np.uint8)).permute(2, 0, 1).contiguous()
        found.append((torch.from_numpy(picture).permute(2, 0, 1), truth))
    return found


def measure() -> Iterator[Result]:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    plain, draws = samples(), [Draw(1, index) for index in range(BATCH)]
    batch, presets = collate(plain), {name: make_augmentation(name) for name in EARLIER}

    def now(name: str) -> None:
        drawn = presets[name].draw(0, np.array(draws), (SIZE, SIZE))
        for sample, values in zip(plain, drawn, strict=True):
            presets[name].apply(*sample, values)

    def in_torch(name: str) -> Sample:
        drawn = presets[name].draw(0, np.array(draws), (SIZE, SIZE))
        return presets[name].apply_batch(batch[0], batch[1], torch.from_numpy(drawn))

    def before(name: str) -> None:
        for sample, draw in zip(plain, draws, strict=True):
            with seeded(0, *draw):
                EARLIER[name](tv_tensors.Image(sample[0]), tv_tensors.Mask(sample[1]))

    for name, limit in (("medical", 0.4), ("street", 0.4), ("light", 1.0)):
        yield compare(
            f"augment_{name}_vs_before",
            partial(now, name),
            partial(before, name),
            limit=limit,
            runs=15,
            note=f"preset {name}, one image at a time with OpenCV, {BATCH} images",
        )
    for name in ("medical", "street"):
        yield compare(
            f"augment_{name}_in_torch_vs_before",
            partial(in_torch, name),
            partial(before, name),
            limit=math.inf,
            runs=1,
            note=f"preset {name} as a batch in torch, on the CPU",
        )


# The presets as they were before, in commit 1bc06fa.


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    digest = hashlib.blake2b(struct.pack(f"<{len(numbers)}q", *numbers), digest_size=8).digest()
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(int.from_bytes(digest, "little") >> 1)
    try:
        yield
    finally:
        generator.set_state(state)


class Warp(v2.Transform):
    def __init__(self, *, degrees: float, shift: float, zoom: float, mirror: bool = False) -> None:
        super().__init__()
        self.degrees, self.shift, self.zoom, self.mirror = degrees, shift, zoom, mirror

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = flat_inputs[0].shape[-2:]
        turn, right, down, grow, flip = (2 * torch.rand(5, dtype=torch.float64) - 1).tolist()
        angle, scale = math.radians(self.degrees) * turn, self.zoom**-grow
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        side = -1 if self.mirror and flip < 0 else 1
        back = np.array([[side * cos, side * sin], [-sin, cos]])
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
            planes = inpt.contiguous().numpy().reshape(-1, height, width)
            moved = torch.from_numpy(np.stack([warp(plane) for plane in planes]).reshape(inpt.shape))
            return tv_tensors.Mask(moved)
        picture = picture_of(inpt)
        return image_of([warp(np.ascontiguousarray(picture[..., at : at + 4])) for at in range(0, len(inpt), 4)], inpt)


class OfImage(v2.Transform):
    def transform(self, inpt: Any, _params: dict[str, Any]) -> Any:
        return inpt if isinstance(inpt, tv_tensors.Mask) else image_of([self.change(picture_of(inpt))], inpt)

    def change(self, picture: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class Tone(OfImage):
    def __init__(self, *, brightness: float, contrast: float, gamma: float = 1, share: float = 0) -> None:
        super().__init__()
        self.brightness, self.contrast, self.gamma, self.share = brightness, contrast, gamma, share

    def change(self, picture: np.ndarray) -> np.ndarray:
        light, spread, curve, chance = torch.rand(4).tolist()
        rows = picture.reshape(len(picture), -1)
        gain = around(self.contrast, spread)
        mean = cv2.mean(rows)[0]
        levels = around(self.brightness, light) * (gain * np.arange(256) + (1 - gain) * mean)
        if chance < self.share:
            levels = 255 * (levels.clip(0, 255) / 255) ** self.gamma ** (2 * curve - 1)
        return cv2.LUT(rows, levels.round().clip(0, 255).astype(np.uint8))


class Colour(OfImage):
    def __init__(self, *, brightness: float, contrast: float, saturation: float) -> None:
        super().__init__()
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation

    def change(self, picture: np.ndarray) -> np.ndarray:
        light, spread, depth = torch.rand(3).tolist()
        gain, depth = around(self.contrast, spread), around(self.saturation, depth)
        grey = np.array([0.299, 0.587, 0.114])
        mix = depth * np.eye(3) + (1 - depth) * grey
        offset = (1 - gain) * float(grey @ cv2.mean(picture)[:3])
        matrix = around(self.brightness, light) * np.column_stack([gain * mix, np.full(3, offset)])
        return cv2.transform(picture, matrix)


class Blur(OfImage):
    def __init__(self, *, low: float, high: float, share: float) -> None:
        super().__init__()
        self.low, self.high, self.share = low, high, share

    def change(self, picture: np.ndarray) -> np.ndarray:
        chance, width = torch.rand(2).tolist()
        if chance >= self.share:
            return picture
        return cv2.GaussianBlur(picture, (5, 5), self.low + (self.high - self.low) * width)


class Noise(OfImage):
    def __init__(self, *, most: float, share: float) -> None:
        super().__init__()
        self.most, self.share = most, share

    def change(self, picture: np.ndarray) -> np.ndarray:
        chance, level = torch.rand(2).tolist()
        if chance >= self.share:
            return picture
        noise = (self.most * level * torch.randn(picture.shape[:2])).numpy()
        return cv2.add(picture, cv2.merge([noise] * picture.shape[2]), dtype=cv2.CV_8U)


def around(width: float, drawn: float) -> float:
    return 1 + width * (2 * drawn - 1)


def picture_of(image: Tensor) -> np.ndarray:
    last = image.permute(1, 2, 0)
    return last.numpy() if last.is_contiguous() else np.atleast_3d(cv2.merge(list(image.numpy())))


def image_of(parts: list[np.ndarray], like: Tensor) -> Tensor:
    channels, height, width = like.shape
    picture = parts[0] if len(parts) == 1 else np.dstack(parts)
    return tv_tensors.Image(torch.from_numpy(picture.reshape(height, width, channels)).permute(2, 0, 1))


EARLIER: dict[str, Callable[..., Any]] = {
    "light": v2.Compose([v2.RandomHorizontalFlip()]),
    "medical": v2.Compose(
        [
            Warp(degrees=10, shift=0.06, zoom=1.15),
            Tone(brightness=0.1, contrast=0.2, gamma=1.5, share=0.3),
            Blur(low=0.5, high=1.0, share=0.2),
            Noise(most=10, share=0.15),
        ]
    ),
    "street": v2.Compose(
        [
            Warp(degrees=3, shift=0.1, zoom=1.4, mirror=True),
            Colour(brightness=0.3, contrast=0.3, saturation=0.3),
        ]
    ),
}

if __name__ == "__main__":
    sys.exit(max([report(result) for result in measure()]))
