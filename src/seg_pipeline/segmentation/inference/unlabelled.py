"""Describe unlabelled images with a trained model: features, disagreement, and confident pixels.

Axes: K channels of the probabilities (the background first, if there is one), C classes, H rows, W columns.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seg_pipeline.segmentation.images.fingerprints import thumbnail
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.inference.label_next import Images, near_copies
from seg_pipeline.segmentation.inference.prefetch import Reader
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads
from seg_pipeline.segmentation.prediction.checkpoint_predictor import checkpoint_predictor
from seg_pipeline.segmentation.prediction.input_logits import Models, probabilities_of
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing
from seg_pipeline.segmentation.prediction.predict_images import load_models
from seg_pipeline.segmentation.prediction.predictor import Image, prepare
from seg_pipeline.segmentation.prediction.uncertainty import calibrated, entropy_map
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.settings.training import Task

log = logging.getLogger(__name__)

MIN_CONFIDENT_SHARE = 0.5
"""Minimum share of confident pixels for an image to become a pseudo-label."""


def describe_images(
    table: pd.DataFrame, checkpoint: dict, *, device: torch.device, temperatures: tuple[float, ...] | None, workers: int
) -> Images:
    """Features and disagreement of the images of a table (``find_images``, or a manifest) that can be read.

    Features are the encoder's, averaged over the image. Disagreement is the mean over pixels of the entropy of the mean
    probabilities minus the mean entropy (Houlsby et al. 2011), between the models of the folds, or between the image
    and its mirrored view if there is one model.
    """
    models = load_models(checkpoint, device)
    reader = Reader(table, models[0][1].input)
    readable, thumbnails, features, disagreement = [], [], [], []
    for index, image, network_input in _readable(reader, workers, "describing"):
        pooled, votes = _features_and_votes(prepare(network_input, models[0][1].input), models, device)
        probabilities = [calibrated(vote, temperatures, models[0][1].task) for vote in votes]
        readable.append(index)
        thumbnails.append(thumbnail(image))
        features.append(pooled)
        disagreement.append(spread(probabilities, models[0][1].task))
    if not readable:
        raise ValueError(f"none of {len(table)} images can be read; the log names each")
    rows = table.iloc[readable]
    return Images(rows["image_id"].tolist(), groups_of(rows), thumbnails, np.stack(features), np.array(disagreement))


def _readable(reader: Reader, workers: int, title: str) -> Iterator[tuple[int, np.ndarray, Image]]:
    """Index, image and network input of each image that can be read; the log lists the others."""
    read = map_in_threads(reader.load, range(len(reader.rows)), workers=workers)
    for index, loaded in enumerate(progress_bar(read, total=len(reader.rows), title=title, unit="images")):
        if loaded.image is None or loaded.network_input is None:
            log.warning("%s is left out: %s", reader.rows[index]["image_id"], loaded.finding and loaded.finding.reason)
        else:
            yield index, loaded.image, loaded.network_input


def groups_of(table: pd.DataFrame) -> list[str]:
    """The group of each image: from the table, else its series, else the folder in its image_id."""
    for name in ("group", "series"):
        if name in table:
            return table[name].astype(str).tolist()
    return [image_id.rpartition("/")[0] for image_id in table["image_id"]]


def spread(votes: list[np.ndarray], task: Task) -> float:
    """How much several predictions of one image, float32 (K, H, W), disagree; 0: they are equal."""
    mean = np.stack(votes).mean(0)
    mean_entropy = np.stack([entropy_map(vote, task) for vote in votes]).mean(0)
    return max(0.0, float((entropy_map(mean, task) - mean_entropy).mean()))


@torch.inference_mode()
def _features_and_votes(image: np.ndarray, models: Models, device: torch.device) -> tuple[np.ndarray, list[np.ndarray]]:
    """Features of the first model (D,), and the probabilities of every model, or of both views with one model."""
    batch, task, features = torch.from_numpy(image).to(device)[None], models[0][1].task, []
    encoder = models[0][0].net.get_submodule("encoder")
    hook = encoder.register_forward_hook(lambda *args: features.append(_pool(args[-1])))
    try:
        votes = [probabilities_of(model(batch), task)[0] for model, _ in models]
        if len(models) == 1:
            votes.append(probabilities_of(models[0][0](batch.flip(-1)), task)[0].flip(-1))
    finally:
        hook.remove()
    num_channels = len(models[0][1].classes) + models[0][1].background  # without the gaps between objects
    return features[0], [vote[:num_channels].float().cpu().numpy() for vote in votes]


def _pool(output: Any) -> np.ndarray:
    """Mean over the pixels (or tokens) of the deepest features of an encoder."""
    while not isinstance(output, Tensor):
        output = next(part for part in reversed(output) if part is not None and len(part))
    last = output[0].float()
    return (last.mean((-2, -1)) if last.ndim == 3 else last.mean(0)).cpu().numpy()


def pseudo_labels(
    table: pd.DataFrame,
    checkpoint: dict,
    held_out: pd.DataFrame,
    *,
    device: torch.device,
    postprocessing: Postprocessing | None,
    confidence: float,
    workers: int,
) -> pd.DataFrame:
    """Manifest rows of the train split with the confident pixels of unlabelled images; their other pixels are ignored.

    Images that look like one of ``held_out``, the manifest rows of val and test, and images with less than
    ``MIN_CONFIDENT_SHARE`` confident pixels are left out.

    Args:
        confidence: minimum probability of a class, or of its absence, for a confident pixel; in a multilabel task it
            must hold for every class.

    Returns:
        The columns of the manifest and label_source; empty if no image is left.
    """
    predictor = checkpoint_predictor(checkpoint, device=device, postprocessing=postprocessing)
    bundle, reader = predictor.bundle, Reader(table, predictor.bundle.input)
    rows: list[dict[str, Any]] = []
    ignored: dict[str, str] = {}
    held_out_thumbnails, groups = held_out["thumbnail"].tolist(), groups_of(table)
    for index, image, network_input in _readable(reader, workers, "pseudo-labels"):
        if near_copies([thumbnail(image)], held_out_thumbnails)[0]:
            continue
        row, group = reader.rows[index], groups[index]
        probabilities = bundle.without_gaps(predictor.probabilities(network_input))
        masks, confident = confident_pixels(probabilities, confidence, bundle.task, background=bundle.background)
        if confident.mean() < MIN_CONFIDENT_SHARE:
            continue
        name = f"pseudo/{row['image_id']}"
        ignored[name] = encode_rle(~confident, order="C")
        runs = {
            f"mask_{label}": [encode_rle(mask, order="C")] if mask.any() else []
            for label, mask in zip(bundle.classes, masks, strict=True)
        }
        file_columns = {"image_id": name, "row": len(rows) + 1, "file": row["file"], "path": row["path"]}
        series = {
            "group": f"pseudo/{group}",
            "series": f"pseudo/{row.get('series', row['image_id'])}",
            "frame": int(row.get("frame", 0)),
        }
        rows.append({**file_columns, **series, **runs})
    if not rows:
        return pd.DataFrame(columns=["image_id", "split"])
    measured, _ = measure_images(pd.DataFrame(rows), MaskReader({label: label for label in bundle.classes}, "rle"))
    source = f"confident pixels (probability {confidence:g}) of the model of data {checkpoint['data_hash'][:12]}"
    return measured.assign(ignore=measured["image_id"].map(ignored), split="train", fold=-1, label_source=source)


def confident_pixels(
    probabilities: np.ndarray, confidence: float, task: Task, *, background: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Masks bool (C, H, W) and the confident pixels bool (H, W) of calibrated probabilities (K, H, W)."""
    high = np.greater_equal(probabilities, confidence)
    if task == "multiclass":
        return high[int(background) :], np.any(high, axis=0)
    return high, np.all(high | (probabilities <= 1 - confidence), axis=0)
