"""Augmentation by named presets of torchvision transforms.

Geometry moves image and masks together; what comes in from outside the frame is ``IGNORE`` in the
masks, so that it counts nowhere. Randomness is torch's global generator: the data set seeds it per sample.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from seg_pipeline.segmentation.masks import IGNORE

Augmentation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_augmentation(name: str) -> Augmentation | None:
    """Takes and gives an image uint8 (3, H, W) and masks uint8 (C, H, W); None for "none".

    "light": mirror images. "medical": small turns, shifts, zooms and changes of contrast, no mirror image
    (left and right differ in a body). "street": mirror images, zooms, colour.

    Raises:
        ValueError: no preset has this name.
    """
    if name not in PRESETS:
        raise ValueError(f"augmentation {name!r} is none of the presets {', '.join(PRESETS)}")
    if name == "none":
        return None
    transform = v2.Compose(PRESETS[name]())
    return lambda image, masks: transform(tv_tensors.Image(image), tv_tensors.Mask(masks))


def _affine(degrees: float, shift: float, zoom: float) -> nn.Module:
    return v2.RandomAffine(
        degrees=degrees,
        translate=(shift, shift),
        scale=(1 / zoom, zoom),
        interpolation=InterpolationMode.BILINEAR,
        fill={tv_tensors.Image: 0, tv_tensors.Mask: IGNORE},
    )


PRESETS: dict[str, Callable[[], list[nn.Module]]] = {
    "none": list,
    "light": lambda: [v2.RandomHorizontalFlip()],
    "medical": lambda: [
        _affine(degrees=10, shift=0.06, zoom=1.15),
        v2.ColorJitter(brightness=0.2, contrast=0.2),
    ],
    "street": lambda: [
        v2.RandomHorizontalFlip(),
        _affine(degrees=3, shift=0.1, zoom=1.4),
        v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3),
    ],
}
