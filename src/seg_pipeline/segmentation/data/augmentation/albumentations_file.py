"""Use a saved Albumentations pipeline as an augmentation."""

import json
import os
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from seg_pipeline.segmentation.data.augmentation.pictures import to_image, to_picture
from seg_pipeline.segmentation.data.randomness import uniforms
from seg_pipeline.segmentation.images.masks import IGNORE


class AlbumentationsPipeline:
    """A pipeline for one sample on the CPU. Parameters: three numbers below 2**24, which seed it."""

    num_parameters = 3

    def __init__(self, pipeline: Any, path: str) -> None:
        self.pipeline, self.path = pipeline, path

    def draw(self, seed: int, keys: np.ndarray, _shape: tuple[int, int], /) -> np.ndarray:
        return np.floor(uniforms(seed, keys, self.num_parameters) * 2**24).astype(np.float32)

    def apply(self, image: Tensor, truth: Tensor, parameters: np.ndarray, /) -> tuple[Tensor, Tensor]:
        seeds = [int(number) for number in parameters.tolist()]
        # not `set_random_seed`, whose result depends on the DataLoader worker
        self.pipeline.set_random_state(np.random.default_rng(seeds), random.Random(str(seeds)))
        result = self.pipeline(image=to_picture(image), mask=to_picture(truth.reshape(-1, *truth.shape[-2:])))
        shapes = result["image"].shape[:2], result["mask"].shape[:2]
        if set(shapes) != {tuple(image.shape[1:])} or result["image"].dtype != np.uint8:
            raise ValueError(
                f"{self.path}: returns an image {result['image'].dtype} {shapes[0]} and a mask {shapes[1]} for a "
                f"sample uint8 {tuple(image.shape[1:])}; leave resizing, cropping and normalising to `input`"
            )
        picture, mask = (np.ascontiguousarray(np.atleast_3d(result[name])) for name in ("image", "mask"))
        return to_image(picture), torch.from_numpy(mask).permute(2, 0, 1).reshape(truth.shape).contiguous()


def albumentations_augmentation(path: str | Path) -> AlbumentationsPipeline:
    """Load a pipeline written by ``albumentations.save``, as YAML or JSON (by the file's extension).

    Truth that the pipeline pads or erases becomes ``IGNORE``; it is never interpolated.

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
        pipeline = albumentations.from_dict(_with_forced_settings(_read(Path(path))))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: not a pipeline that albumentations {albumentations.__version__} can read "
            f"({type(error).__name__}: {error}); write it with `albumentations.save(pipeline, path, data_format=...)`"
        ) from error
    return AlbumentationsPipeline(pipeline, str(path))


def _read(path: Path) -> Any:
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError(f"the file name ends in {path.suffix!r}, expected .yaml, .yml or .json")
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _with_forced_settings(saved: Any) -> Any:
    """Make the pipeline pad truth with ``IGNORE``, resample it by nearest neighbour, and send no telemetry.

    AlbumentationsX, which has the same file format, would otherwise report each pipeline to its vendor.
    """
    if isinstance(saved, list):
        return [_with_forced_settings(part) for part in saved]
    if not isinstance(saved, dict):
        return saved
    forced = {"fill_mask": IGNORE, "mask_interpolation": cv2.INTER_NEAREST, "telemetry": False}
    is_geometric = "border_mode" in saved  # in other transforms null leaves the truth unchanged
    return {
        key: forced[key] if key in forced and (is_geometric or value is not None) else _with_forced_settings(value)
        for key, value in saved.items()
    }
