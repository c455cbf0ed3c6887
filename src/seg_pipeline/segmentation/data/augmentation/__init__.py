"""Augmentation: presets that run per image with OpenCV or per batch with torch, Albumentations pipelines, and
torchvision transforms.

Geometric changes apply to both image and truth; pixels from outside the image become ``IGNORE`` in the truth.
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
