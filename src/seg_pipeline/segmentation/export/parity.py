"""Compare the exported formats with the trained model: from file to mask, at several sizes and batch sizes."""

import itertools
import logging
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from seg_pipeline.segmentation.export.formats import naming_format
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
    """Logits of each image per network, without mirroring or windows, and its masks."""

    logits: list[list[np.ndarray]]
    masks: list[np.ndarray]


def compare_formats(
    bundle: Bundle, checkpoint: dict[str, Any], rows: pd.DataFrame, settings: ParitySettings, scores: ScoreSettings
) -> pd.DataFrame:
    """One row per format, scale and batch size: differences from the trained model, which computes in float32 too.

    The trained model predicts as in evaluation (torch's data set and loader), a format as in ``Predictor``. Images are
    chosen from manifest ``rows``, and the limits in ``settings`` stand beside each difference.
    """
    models = load_models(in_float32(checkpoint), CPU)[: len(bundle.used)]
    predictors = {bundle_format: bundle_predictor(bundle, bundle_format) for bundle_format in bundle.formats}
    found = []
    total = len(settings.scales) * len(settings.batch_sizes) * len(predictors)
    log.info("comparing %s with the trained model on %d images", ", ".join(predictors), settings.images)
    bar = progress_bar(total=total, title="comparing", unit="comparisons")
    with ScratchFolder() as folder, bar:
        for number, scale in enumerate(settings.scales):
            below = Path(folder) / str(number)
            below.mkdir()
            some = scaled_copies(spread(rows, settings.images), scale, below)
            for batch_size in settings.batch_sizes:
                trained = _trained(models, bundle, some, batch_size)
                about = {"scale": scale, "sizes": _sizes(some), "batch_size": batch_size, "num_images": len(some)}
                for bundle_format, predictor in predictors.items():
                    title = f"comparing {bundle_format}, {_sizes(some)}, batches of {batch_size}"
                    bar.set_description_str(title, refresh=False)
                    with naming_format(bundle_format):
                        outcome = _exported(predictor, some, batch_size)
                    found.append({"format": bundle_format, **about, **_differences(trained, outcome, some, scores)})
                    bar.update()
    return _with_limits(pd.DataFrame(found), settings)


def refuse_differences(parity: pd.DataFrame) -> None:
    """Raise ValueError if a row of ``compare_formats`` is not ok."""
    bad = parity[~parity["ok"]]
    if bad.empty:
        return
    worst = bad.sort_values("logit_difference").iloc[-1]
    raise ValueError(
        f"{len(bad)} of {len(parity)} comparisons with the trained model are beyond the limits, of the formats "
        f"{', '.join(sorted(set(bad['format'])))}; the worst, {worst['format']} at {worst['sizes']} in batches of "
        f"{worst['batch_size']}: logits differ by {worst['logit_difference']:.2g} (limit "
        f"{worst['max_logit_difference']:g}), masks at {worst['pixel_share']:.2g} of the pixels (limit "
        f"{worst['max_pixel_share']:g}), Dice by {worst['dice_difference']:.2g} (limit "
        f"{worst['max_dice_difference']:g}). The bundle was not replaced. Leave the format out of `export.formats`, or "
        "raise a limit of `export.parity` that you can accept; the table `export_parity` has them all"
    )


def _trained(
    models: list[tuple[Segmenter, TrainingConfig]], bundle: Bundle, rows: pd.DataFrame, batch_size: int
) -> Outcome:
    logits = [[one.numpy() for one in full_size_logits(*each, rows, CPU, batch_size, NO_OPTIONS)] for each in models]

    def finish(_: dict, probabilities: torch.Tensor) -> np.ndarray:
        sure = calibrated(probabilities.numpy(), bundle.postprocessing.temperatures, bundle.task)
        return make_masks(sure, bundle.postprocessing, task=bundle.task, background=bundle.background)

    masks = predict_each(models, rows, finish, device=CPU, batch_size=batch_size, settings=bundle.prediction)
    return Outcome(logits, list(masks))


def _exported(predictor: ImagePredictor, rows: pd.DataFrame, batch_size: int) -> Outcome:
    logits: list[list[np.ndarray]] = [[] for _ in predictor.networks]
    masks: list[np.ndarray] = []
    for own, part in predictors_by_source(predictor, rows):
        plain = copy(own)
        plain.bundle = replace(own.bundle, prediction=NO_OPTIONS)
        for batch in batches(part, own.bundle.input, batch_size):
            for index, found in enumerate(logits):
                found.extend(plain.full_size_logits(batch, index))
            masks += map(own.masks, own.batch_probabilities(batch))
    return Outcome(logits, masks)


def _differences(trained: Outcome, exported: Outcome, rows: pd.DataFrame, scores: ScoreSettings) -> dict[str, float]:
    pairs = zip(itertools.chain(*trained.logits), itertools.chain(*exported.logits), strict=True)
    differing = sum(int((mine != theirs).sum()) for mine, theirs in zip(trained.masks, exported.masks, strict=True))
    dice = [mean_dice(outcome.masks, rows, scores) for outcome in (trained, exported)]
    return {
        "logit_difference": max(float(np.abs(mine - theirs).max()) for mine, theirs in pairs),
        "pixel_share": differing / sum(mask.size for mask in trained.masks),
        "dice_trained": dice[0],
        "dice_exported": dice[1],
        "dice_difference": 0.0 if np.isnan(dice).all() else abs(dice[0] - dice[1]),
    }


def _sizes(rows: pd.DataFrame) -> str:
    sizes = rows[["height", "width"]].drop_duplicates().itertuples(index=False)
    return ", ".join(f"{height} x {width}" for height, width in sizes)


def _with_limits(table: pd.DataFrame, settings: ParitySettings) -> pd.DataFrame:
    """The limits, and whether all hold; for int8 and bf16, ``drop_inaccurate_formats`` checks the Dice instead."""
    measures, exact = ("logit_difference", "pixel_share", "dice_difference"), ~table["format"].isin(INEXACT)
    limited = table.assign(**{f"max_{name}": getattr(settings, f"max_{name}") for name in measures}, exact=exact)
    within = np.logical_and.reduce([limited[name] <= limited[f"max_{name}"] for name in measures])
    return limited.assign(ok=within | ~exact)
