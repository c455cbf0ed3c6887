"""Augmentation: presets that run per image with OpenCV or per batch with torch, pipelines of Albumentations,
and transforms of torchvision.

Geometric changes apply to image and truth alike; pixels from outside the image become ``IGNORE`` in the truth.
"""

from seg_pipeline.segmentation.data.augmentation.albumentations_file import (
    AlbumentationsPipeline,
    albumentations_augmentation,
)
from seg_pipeline.segmentation.data.augmentation.presets import PRESETS, Augmentation, Preset, make_augmentation
from seg_pipeline.segmentation.data.augmentation.torchvision_transforms import TorchvisionTransforms

__all__ = [
    "PRESETS",
    "AlbumentationsPipeline",
    "Augmentation",
    "Preset",
    "TorchvisionTransforms",
    "albumentations_augmentation",
    "make_augmentation",
]
