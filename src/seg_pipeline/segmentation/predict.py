"""Masks of images, at the images' own size, by one model or the mean of several."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from seg_pipeline.segmentation.datasets import VisionImageMaskDataset, to_native
from seg_pipeline.segmentation.devices import autocast, pick_precision
from seg_pipeline.segmentation.loaders import collate, whole_images
from seg_pipeline.segmentation.masks import encode_rle
from seg_pipeline.segmentation.recipe import Recipe
from seg_pipeline.segmentation.segmenter import Segmenter


def load_members(checkpoint: dict, device: torch.device) -> list[tuple[Segmenter, Recipe]]:
    """The models of a checkpoint (one, or one a fold), ready to predict, built from what it says itself."""
    members = []
    for saved in checkpoint["members"]:
        recipe = Recipe.from_dict(saved["recipe"])
        model = Segmenter(recipe, pretrained=False)
        model.load_state_dict(saved["model"])
        members.append((model.to(device).eval(), recipe))
    return members


def predict_masks(
    manifest: pd.DataFrame, checkpoint: dict, *, device: torch.device, batch_size: int, threshold: float
) -> pd.DataFrame:
    """Predictions of all rows: image_id, height, width and mask_<class> (run lengths as in the manifest).

    Several members vote by the mean of their probabilities.

    Raises:
        ValueError: there is no row, as where the test split has a share of 0.
    """
    if manifest.empty:
        raise ValueError("there is no image to predict: the test split is empty; give it a share, `split.shares.test`")
    members = load_members(checkpoint, device)
    (model, recipe), *_ = members
    logits = zip(*(native_logits(*member, manifest, device, batch_size) for member in members), strict=True)
    rows = []
    for row, votes in zip(manifest.to_dict("records"), logits, strict=True):
        (predicted,) = model.masks(mean_vote(votes, recipe.task)[None], threshold=threshold).cpu().numpy()
        about = {name: row[name] for name in ("image_id", "height", "width")}
        runs = (encode_rle(mask, order="C") for mask in predicted)
        rows.append({**about, **dict(zip((f"mask_{name}" for name in recipe.classes), runs, strict=True))})
    return pd.DataFrame(rows)


def mean_vote(votes: tuple[Tensor, ...], task: str) -> Tensor:
    """Logits (K, H, W) of the mean of several logits' probabilities."""
    if len(votes) == 1:
        return votes[0]
    if task == "multilabel":
        return torch.stack(votes).sigmoid().mean(0).logit(eps=1e-6)
    return torch.stack(votes).softmax(1).mean(0).log()


@torch.inference_mode()
def native_logits(
    model: Segmenter, recipe: Recipe, manifest: pd.DataFrame, device: torch.device, batch_size: int
) -> Iterator[Tensor]:
    """Logits (K, height, width) of each row, on the device."""
    dataset = VisionImageMaskDataset(manifest, recipe.input, task=recipe.task, background=recipe.background)
    loader: DataLoader = DataLoader(
        dataset, whole_images(manifest, recipe.input, batch_size=batch_size), collate_fn=collate
    )
    shapes = iter(manifest[["height", "width"]].itertuples(index=False, name=None))
    dtype = pick_precision(recipe.fit.precision, device)
    for images, _ in tqdm(loader, desc="predicting", unit="batch", disable=None, leave=False):
        with autocast(device, dtype):
            logits = model(images.to(device))
        for one in logits:  # images of one batch may differ in native size
            height, width = next(shapes)
            yield to_native(one, height, width, recipe.input)
