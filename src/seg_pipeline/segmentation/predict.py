"""Masks of images, at the images' own size."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from seg_pipeline.segmentation.datasets import ImageMaskDataset
from seg_pipeline.segmentation.devices import autocast, pick_precision
from seg_pipeline.segmentation.masks import encode_rle
from seg_pipeline.segmentation.recipe import Recipe
from seg_pipeline.segmentation.segmenter import Segmenter


def load_segmenter(checkpoint: dict, device: torch.device) -> tuple[Segmenter, Recipe]:
    """The model of a checkpoint, ready to predict, built from what the checkpoint itself says."""
    recipe = Recipe.from_dict(checkpoint["recipe"])
    model = Segmenter(recipe, pretrained=False)
    model.load_state_dict(checkpoint["model"])
    return model.to(device).eval(), recipe


def predict_masks(
    manifest: pd.DataFrame, checkpoint: dict, *, device: torch.device, batch_size: int, threshold: float
) -> pd.DataFrame:
    """Predictions of all rows: image_id, height, width and mask_<class> (run lengths as in the manifest).

    Raises:
        ValueError: there is no row, as where the test split has a share of 0.
    """
    if manifest.empty:
        raise ValueError("there is no image to predict: the test split is empty; give it a share, `split.shares.test`")
    model, recipe = load_segmenter(checkpoint, device)
    masks = _native_masks(model, recipe, manifest, device, batch_size, threshold)
    rows = []
    for row, predicted in zip(manifest.to_dict("records"), masks, strict=True):
        about = {name: row[name] for name in ("image_id", "height", "width")}
        runs = (encode_rle(mask.numpy(), order="C") for mask in predicted)
        rows.append({**about, **dict(zip((f"mask_{name}" for name in recipe.classes), runs, strict=True))})
    return pd.DataFrame(rows)


def _native_masks(
    model: Segmenter,
    recipe: Recipe,
    manifest: pd.DataFrame,
    device: torch.device,
    batch_size: int,
    threshold: float,
) -> Iterator[Tensor]:
    """Bool masks (C, H, W) of each row, on the CPU."""
    dataset = ImageMaskDataset(manifest, size=recipe.size, window=recipe.window, cache=False)
    shapes = iter(manifest[["height", "width"]].itertuples(index=False, name=None))
    dtype = pick_precision(recipe.precision, device)
    for images, _ in tqdm(DataLoader(dataset, batch_size), desc="predicting", unit="batch", disable=None):
        with torch.inference_mode(), autocast(device, dtype):
            logits = model(images.to(device))
        for one in logits:  # images of one batch may differ in native size
            native = F.interpolate(one[None], size=next(shapes), mode="bilinear", align_corners=False)
            yield model.masks(native, threshold=threshold)[0].cpu()
