"""Predict probabilities and masks at the images' own size, with one model or the mean of several.

Axes: B images, K channels of the probabilities (the background first, if there is one), C classes, H rows,
W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from seg_pipeline.segmentation.data.datasets import make_dataset, to_native
from seg_pipeline.segmentation.data.loaders import collate, whole_images
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.table import read_masks
from seg_pipeline.segmentation.metrics.calibration import Calibration
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, make_masks
from seg_pipeline.segmentation.prediction.tiles import Stitcher, windows
from seg_pipeline.segmentation.settings.training import PredictSettings, Task
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.devices import autocast, pick_precision

NO_OPTIONS = PredictSettings()


def load_members(checkpoint: dict, device: torch.device) -> list[tuple[Segmenter, TrainingConfig]]:
    """Build the models of a checkpoint (one, or one per fold) from its own config and weights, in evaluation mode."""
    members = []
    for saved in checkpoint["members"]:
        config = TrainingConfig.from_dict(saved["config"])
        model = Segmenter(config, pretrained=False)
        model.load_state_dict(saved["model"])
        members.append((model.to(device).eval(), config))
    return members


def config_of(checkpoint: dict) -> TrainingConfig:
    """Config of a checkpoint's first model. All its models share task, classes, background and scores."""
    return TrainingConfig.from_dict(checkpoint["members"][0]["config"])


def plain_masks(config: TrainingConfig) -> Postprocessing:
    """Settings that only threshold the probabilities, as training does for validation."""
    threshold = config.scores.threshold if config.task == "multilabel" else None
    return Postprocessing.none(len(config.classes), threshold)


def predict_masks(
    rows: pd.DataFrame,
    checkpoint: dict,
    *,
    device: torch.device,
    batch_size: int,
    postprocessing: Postprocessing,
    settings: PredictSettings = NO_OPTIONS,
    calibration: Calibration | None = None,
) -> pd.DataFrame:
    """Predict all rows of a manifest.

    Args:
        postprocessing: how probabilities become masks.
        settings: test-time augmentation, windows and ensemble.
        calibration: updated with each image's probabilities and ground truth.

    Returns:
        One row per image: image_id, height, width; and per class mask_<class> (run lengths as in the manifest),
        peak_<class> (largest probability in the image) and mean_<class> (mean probability inside the mask, NaN if
        it is empty).

    Raises:
        ValueError: ``rows`` is empty, for example because the test split has a share of 0.
    """
    if rows.empty:
        raise ValueError("no images to predict: the test split is empty; set a share above 0 in `split.shares.test`")
    config = config_of(checkpoint)
    found = full_size_probabilities(rows, checkpoint, device=device, batch_size=batch_size, settings=settings)
    table = []
    for row, tensor in zip(rows.to_dict("records"), found, strict=True):
        probabilities = tensor.numpy()
        masks = make_masks(probabilities, postprocessing, task=config.task, background=config.background)
        of_classes = probabilities[int(config.background) :]
        if calibration is not None:
            calibration.update(of_classes, read_masks(row, list(config.classes)))
        table.append(_described(row, of_classes, masks, config.classes))
    return pd.DataFrame(table)


def _described(row: dict, probabilities: np.ndarray, masks: np.ndarray, classes: tuple[str, ...]) -> dict:
    """One row of the predictions, from probabilities (C, H, W) and masks (C, H, W)."""
    about = {name: row[name] for name in ("image_id", "height", "width")}
    runs = {f"mask_{name}": encode_rle(mask, order="C") for name, mask in zip(classes, masks, strict=True)}
    peaks = {f"peak_{name}": float(one.max()) for name, one in zip(classes, probabilities, strict=True)}
    means = {
        f"mean_{name}": float(one[mask].mean()) if mask.any() else math.nan
        for name, one, mask in zip(classes, probabilities, masks, strict=True)
    }
    return {**about, **runs, **peaks, **means}


def full_size_probabilities(
    rows: pd.DataFrame,
    checkpoint: dict,
    *,
    device: torch.device,
    batch_size: int,
    settings: PredictSettings = NO_OPTIONS,
) -> Iterator[Tensor]:
    """Yield each row's probabilities, float32 (K, height, width), on the CPU: the mean over the models."""
    members = load_members(checkpoint, device)[: 1 if settings.ensemble == "first" else None]
    return mean_probabilities(members, rows, device=device, batch_size=batch_size, settings=settings)


def mean_probabilities(
    members: list[tuple[Segmenter, TrainingConfig]],
    rows: pd.DataFrame,
    *,
    device: torch.device,
    batch_size: int,
    settings: PredictSettings,
) -> Iterator[Tensor]:
    """Like ``full_size_probabilities``, with models that are already loaded."""
    task = members[0][1].task
    logits = (full_size_logits(*member, rows, device, batch_size, settings) for member in members)
    for votes in zip(*logits, strict=True):
        voted = [probabilities_of(vote, task) for vote in votes]
        yield voted[0] if len(voted) == 1 else torch.stack(voted).mean(0)


def probabilities_of(logits: Tensor, task: Task) -> Tensor:
    """Probabilities of logits (..., K, H, W)."""
    return logits.sigmoid() if task == "multilabel" else logits.softmax(-3)


@torch.inference_mode()
def full_size_logits(
    model: Segmenter,
    config: TrainingConfig,
    rows: pd.DataFrame,
    device: torch.device,
    batch_size: int,
    settings: PredictSettings,
) -> Iterator[Tensor]:
    """Yield each row's logits, float32 (K, height, width), on the CPU."""
    dataset = make_dataset(rows, config.input, task=config.task, background=config.background)
    at_once = whole_images(rows, config.input, batch_size=batch_size) if settings.overlap is None else 1
    loader: DataLoader = DataLoader(dataset, at_once, collate_fn=collate)
    shapes = iter(rows[["height", "width"]].itertuples(index=False, name=None))
    dtype = pick_precision(config.fit.precision, device)

    def predict(images: Tensor) -> Tensor:
        with autocast(device, dtype):
            return mirrored_vote(model, images.to(device), settings.mirrored, config.task)

    for images, _ in tqdm(loader, desc="predicting", unit="batch", disable=None, leave=False):
        if settings.overlap is None:
            logits = predict(images)
        else:
            logits = stitched(predict, images, config, overlap=settings.overlap, batch_size=batch_size)
        for one in logits:  # images of one batch may differ in native size
            height, width = next(shapes)
            yield to_native(one, height, width, config.input)


def mirrored_vote(
    model: Callable[[Tensor], Tensor], images: Tensor, mirrored: tuple[tuple[int, ...], ...], task: Task
) -> Tensor:
    """Average the probabilities over mirrored copies of the images, and return the logits (B, K, H, W).

    Args:
        mirrored: axes to flip, one tuple per copy; an empty tuple is the image itself.
    """
    votes = [model(images.flip(axes)).flip(axes) if axes else model(images) for axes in mirrored]
    if len(votes) == 1:
        return votes[0]
    mean = probabilities_of(torch.stack(votes), task).mean(0)
    return mean.logit(eps=1e-6) if task == "multilabel" else mean.clamp(min=1e-9).log()


def stitched(
    predict: Callable[[Tensor], Tensor], images: Tensor, config: TrainingConfig, *, overlap: float, batch_size: int
) -> Tensor:
    """Predict one image (1, channels, H, W) in overlapping windows of the input's size: logits (1, K, H, W)."""
    (image,) = images
    shape = image.shape[-2], image.shape[-1]
    stitcher = Stitcher(config.num_channels, shape)
    every = windows(shape, config.input.size, overlap=overlap)
    for begin in range(0, len(every), batch_size):
        spans = every[begin : begin + batch_size]
        parts = predict(torch.stack([image[:, rows, columns] for rows, columns in spans]))
        for span, part in zip(spans, parts.cpu().numpy(), strict=True):
            stitcher.add(span, part)
    return torch.from_numpy(stitcher.result())[None]
