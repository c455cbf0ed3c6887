"""Compare exported formats with the trained model, from file to mask, at several image and batch sizes."""

import itertools
import logging
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from seg_pipeline.segmentation.export.formats import format_errors
from seg_pipeline.segmentation.export.reduced_precision import INEXACT
from seg_pipeline.segmentation.export.validation import (
    batches,
    bundle_predictor,
    in_float32,
    mean_dice,
    predictors_by_source,
    scaled_copies,
)
from seg_pipeline.segmentation.manifest.table import spread
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.prediction.postprocessing import make_masks
from seg_pipeline.segmentation.prediction.predict_images import NO_OPTIONS, full_size_logits, load_models, predict_each
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.segmentation.prediction.uncertainty import calibrated
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.settings.training import ParitySettings, ScoreSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.storage.atomic import ScratchFolder

log = logging.getLogger(__name__)

CPU = torch.device("cpu")


class Outcome(NamedTuple):
    """Per network, the logits of each image without mirroring or windows; and the masks of each image."""

    logits: list[list[np.ndarray]]
    masks: list[np.ndarray]


def compare_formats(
    bundle: Bundle, checkpoint: dict[str, Any], rows: pd.DataFrame, settings: ParitySettings, scores: ScoreSettings
) -> pd.DataFrame:
    """One row per format, scale and batch size: differences from the trained model, both computed in float32.

    The trained model predicts as in evaluation (torch's data set and loader), a format as in ``Predictor``. Images are
    chosen from manifest ``rows``; the limits in ``settings`` are listed beside each difference.
    """
    models = load_models(in_float32(checkpoint), CPU)[: len(bundle.used)]
    predictors = {bundle_format: bundle_predictor(bundle, bundle_format) for bundle_format in bundle.formats}
    comparisons = []
    total = len(settings.scales) * len(settings.batch_sizes) * len(predictors)
    log.info("comparing %s with the trained model on %d images", ", ".join(predictors), settings.images)
    bar = progress_bar(total=total, title="comparing", unit="comparisons")
    with ScratchFolder() as folder, bar:
        for number, scale in enumerate(settings.scales):
            scale_folder = Path(folder) / str(number)
            scale_folder.mkdir()
            images = scaled_copies(spread(rows, settings.images), scale, scale_folder)
            for batch_size in settings.batch_sizes:
                trained = _predict_trained(models, bundle, images, batch_size)
                case = {"scale": scale, "sizes": _sizes(images), "batch_size": batch_size, "num_images": len(images)}
                for bundle_format, predictor in predictors.items():
                    title = f"comparing {bundle_format}, {_sizes(images)}, batches of {batch_size}"
                    bar.set_description_str(title, refresh=False)
                    with format_errors(bundle_format):
                        outcome = _predict_exported(predictor, images, batch_size)
                    comparisons.append(
                        {"format": bundle_format, **case, **_differences(trained, outcome, images, scores)}
                    )
                    bar.update()
    return _with_limits(pd.DataFrame(comparisons), settings)


def refuse_differences(parity: pd.DataFrame) -> None:
    """Raise ValueError if a row of ``compare_formats`` is not ok."""
    bad = parity[~parity["ok"]]
    if bad.empty:
        return
    worst = bad.sort_values("logit_difference").iloc[-1]
    raise ValueError(
        f"{len(bad)} of {len(parity)} comparisons with the trained model exceed the limits, for the formats "
        f"{', '.join(sorted(set(bad['format'])))}; the worst, {worst['format']} at {worst['sizes']} in batches of "
        f"{worst['batch_size']}: logits differ by {worst['logit_difference']:.2g} (limit "
        f"{worst['max_logit_difference']:g}), masks at {worst['pixel_share']:.2g} of the pixels (limit "
        f"{worst['max_pixel_share']:g}), Dice by {worst['dice_difference']:.2g} (limit "
        f"{worst['max_dice_difference']:g}). The bundle was not replaced. Remove the format from `export.formats`, or "
        "raise a limit of `export.parity` that you can accept; the table `export_parity` lists all comparisons"
    )


def _predict_trained(
    models: list[tuple[Segmenter, TrainingConfig]], bundle: Bundle, rows: pd.DataFrame, batch_size: int
) -> Outcome:
    logits = [
        [image_logits.numpy() for image_logits in full_size_logits(*model, rows, CPU, batch_size, NO_OPTIONS)]
        for model in models
    ]

    def finish(_: dict, probabilities: torch.Tensor) -> np.ndarray:
        values = calibrated(probabilities.numpy(), bundle.postprocessing.temperatures, bundle.task)
        return make_masks(values, bundle.postprocessing, task=bundle.task, background=bundle.background)

    masks = predict_each(models, rows, finish, device=CPU, batch_size=batch_size, settings=bundle.prediction)
    return Outcome(logits, list(masks))


def _predict_exported(predictor: ImagePredictor, rows: pd.DataFrame, batch_size: int) -> Outcome:
    logits: list[list[np.ndarray]] = [[] for _ in predictor.networks]
    masks: list[np.ndarray] = []
    for source_predictor, part in predictors_by_source(predictor, rows):
        plain = copy(source_predictor)
        plain.bundle = replace(source_predictor.bundle, prediction=NO_OPTIONS)
        for batch in batches(part, source_predictor.bundle.input, batch_size):
            for index, network_logits in enumerate(logits):
                network_logits.extend(plain.full_size_logits(batch, index))
            masks += map(source_predictor.masks, source_predictor.batch_probabilities(batch))
    return Outcome(logits, masks)


def _differences(trained: Outcome, exported: Outcome, rows: pd.DataFrame, scores: ScoreSettings) -> dict[str, float]:
    pairs = zip(itertools.chain(*trained.logits), itertools.chain(*exported.logits), strict=True)
    differing = sum(int((mask != other).sum()) for mask, other in zip(trained.masks, exported.masks, strict=True))
    dice = [mean_dice(outcome.masks, rows, scores) for outcome in (trained, exported)]
    return {
        "logit_difference": max(
            float(np.abs(trained_logits - exported_logits).max()) for trained_logits, exported_logits in pairs
        ),
        "pixel_share": differing / sum(mask.size for mask in trained.masks),
        "dice_trained": dice[0],
        "dice_exported": dice[1],
        "dice_difference": 0.0 if np.isnan(dice).all() else abs(dice[0] - dice[1]),
    }


def _sizes(rows: pd.DataFrame) -> str:
    sizes = rows[["height", "width"]].drop_duplicates().itertuples(index=False)
    return ", ".join(f"{height} x {width}" for height, width in sizes)


def _with_limits(table: pd.DataFrame, settings: ParitySettings) -> pd.DataFrame:
    """Add the limits, and whether all hold; for int8 and bf16, ``drop_inaccurate_formats`` checks Dice instead."""
    measures, exact = ("logit_difference", "pixel_share", "dice_difference"), ~table["format"].isin(INEXACT)
    limited = table.assign(**{f"max_{name}": getattr(settings, f"max_{name}") for name in measures}, exact=exact)
    within = np.logical_and.reduce([limited[name] <= limited[f"max_{name}"] for name in measures])
    return limited.assign(ok=within | ~exact)
