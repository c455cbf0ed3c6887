"""Predictors to compare, their input images from the manifest, and the Dice of their masks."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from seg_pipeline.segmentation.data.datasets import by_source
from seg_pipeline.segmentation.data.geometry import resize_truth
from seg_pipeline.segmentation.data.sample_decoding import frame_rows
from seg_pipeline.segmentation.export.formats import load_network
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.images.encoding import write_png
from seg_pipeline.segmentation.images.masks import IGNORE, encode_rle
from seg_pipeline.segmentation.manifest.table import class_names, read_masks
from seg_pipeline.segmentation.metrics import overlap
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.prediction.checkpoint_predictor import checkpoint_predictor
from seg_pipeline.segmentation.prediction.predictor import Image, ImagePredictor
from seg_pipeline.segmentation.settings.training import InputSettings, ScoreSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig


def bundle_predictor(bundle: Bundle, bundle_format: str) -> ImagePredictor:
    """Like ``predictor.Predictor``, for every format of ``bundle.FILES``."""
    configs = [TrainingConfig.from_dict(trained["config"]) for trained in bundle.provenance["models"]]
    files = zip(bundle.paths(bundle_format), configs, strict=False)
    return ImagePredictor(
        bundle, [load_network(path, bundle_format, config) for path, config in files], bundle_format=bundle_format
    )


def trained_predictor(bundle: Bundle, checkpoint: dict[str, Any]) -> ImagePredictor:
    """The trained model in float32 on the CPU, with the bundle's prediction options and postprocessing."""
    return checkpoint_predictor(
        in_float32(checkpoint),
        device=torch.device("cpu"),
        postprocessing=bundle.postprocessing,
        prediction=bundle.prediction,
    )


def in_float32(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint with float32 precision, because the comparison is about the network, not the number format."""
    models = [
        {**model, "config": TrainingConfig.from_dict(model["config"]).changed({"fit.precision": "float32"}).to_dict()}
        for model in checkpoint["models"]
    ]
    return {**checkpoint, "models": models}


def input_images(rows: pd.DataFrame, settings: InputSettings) -> Iterator[Image]:
    """Images of manifest rows as inputs of ``ImagePredictor``, with neighbouring frames if the network takes them."""
    paths = rows["path"].to_list()
    if isinstance(settings.channels, str):
        yield from map(read_image, paths)
        return
    for frames in frame_rows(rows, settings).tolist():
        yield [None if index < 0 else read_image(paths[index]) for index in frames]


def predictors_by_source(
    predictor: ImagePredictor, rows: pd.DataFrame
) -> Iterator[tuple[ImagePredictor, pd.DataFrame]]:
    """Per source of a combined manifest: the predictor with the source's normalisation, and its rows in order."""
    bundle, networks = predictor.bundle, [network for _, network in predictor.networks]
    for source, part in by_source(rows):
        source_name = None if bundle.input.source_input(source) is None else source
        yield ImagePredictor(bundle, networks, bundle_format=predictor.bundle_format, source=source_name), part


def batches(rows: pd.DataFrame, settings: InputSettings, batch_size: int) -> Iterator[Sequence[Image]]:
    """``input_images``, ``batch_size`` at a time."""
    images = input_images(rows, settings)
    while batch := list(itertools.islice(images, batch_size)):
        yield batch


def predicted_masks(predictor: ImagePredictor, rows: pd.DataFrame, *, batch_size: int = 1) -> Iterator[np.ndarray]:
    """Bool masks (C, H, W) of each row, from its file."""
    for source_predictor, part in predictors_by_source(predictor, rows):
        for batch in batches(part, predictor.bundle.input, batch_size):
            yield from map(source_predictor.masks, source_predictor.batch_probabilities(batch))


def mean_dice(masks: Iterable[np.ndarray], rows: pd.DataFrame, scores: ScoreSettings) -> float:
    """Mean Dice over the classes of predicted masks of manifest rows; NaN if no image shows a class."""
    counts, names = overlap.Collected[overlap.Counts](), class_names(rows)
    for row, predicted in zip(rows.to_dict("records"), masks, strict=True):
        truth = torch.from_numpy(read_masks(row, names))[None]
        counts.add(overlap.count(torch.from_numpy(predicted)[None], truth))
    return overlap.mean_dice(counts.all(), aggregation=scores.aggregation, empty_policy=scores.empty_policy)


def validation_rows(train_val_images: pd.DataFrame) -> pd.DataFrame:
    """The validation images, or the train images if there are none."""
    val = train_val_images[train_val_images["split"] == "val"]
    return val if len(val) else train_val_images


def scaled_copies(rows: pd.DataFrame, scale: float, folder: Path) -> pd.DataFrame:
    """Manifest rows of scaled images, saved as PNG files in ``folder``, with scaled masks."""
    if scale == 1:
        return rows
    return pd.DataFrame(
        [_scaled_copy(row, scale, folder / f"{number}.png") for number, row in enumerate(rows.to_dict("records"))]
    )


def _scaled_copy(row: dict, scale: float, path: Path) -> dict:
    names = [name.removeprefix("mask_") for name in row if name.startswith("mask_")]
    image = read_image(row["path"])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    pixels = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    write_png(path, pixels)
    masks = resize_truth(read_masks(row, names), (height, width))
    runs = {f"mask_{name}": encode_rle(mask == 1, order="C") for name, mask in zip(names, masks, strict=True)}
    ignore = encode_rle(masks[0] == IGNORE, order="C")
    return {**row, **runs, "ignore": ignore, "path": str(path), "height": height, "width": width}
