"""Predict the images of a run with its model, for the pipelines `inference` and `annotate`."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from seg_pipeline.segmentation.inference.run import OutputSettings, Result, predict_folder
from seg_pipeline.segmentation.inference.sources import listed_images
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.prediction.checkpoint_predictor import choose_predictor
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing
from seg_pipeline.segmentation.settings.training import PredictSettings
from seg_pipeline.segmentation.training.devices import pick_device

log = logging.getLogger(__name__)


class Predicted(NamedTuple):
    images: pd.DataFrame
    bundle: Bundle
    result: Result


def predict_new_images(
    images: str,
    folder: Path,
    *,
    settings: OutputSettings,
    postprocessing: dict[str, Any] | None,
    default: PredictSettings,
    prediction: PredictSettings | None,
    device: str,
    num_workers: int,
    batch_size: int,
    **model: Any,
) -> Predicted:
    """Predict images into ``folder``; the log lists what was left out.

    Args:
        postprocessing: the choice saved by evaluation, for a checkpoint.
        default: options for a checkpoint, unless ``prediction`` sets them.
        model: the other arguments of ``choose_predictor``.

    Raises:
        ValueError: raised by ``find_images``, ``choose_predictor`` and ``predict_folder``.
    """
    predictor = choose_predictor(
        **model,
        postprocessing=Postprocessing.chosen(postprocessing),
        prediction=(default.resolved(postprocessing), prediction),
        device=pick_device(device),
    )
    table = listed_images(images)
    result = predict_folder(table, predictor, folder, settings=settings, workers=num_workers, batch_size=batch_size)
    if failed := len(result.findings):
        findings = folder / "findings.csv"
        log.warning("%d of %d images could not be predicted; %s lists the reasons", failed, len(table), findings)
    return Predicted(table, predictor.bundle, result)
