"""Predict the images that a run names with the model that it names, for the pipelines `inference` and `annotate`."""

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


def predict_given(
    images: str,
    folder: Path,
    *,
    settings: OutputSettings,
    postprocessing: dict[str, Any] | None,
    usual: PredictSettings,
    prediction: PredictSettings | None,
    device: str,
    num_workers: int,
    batch_size: int,
    **model: Any,
) -> Predicted:
    """Predict images into ``folder``; the log tells what was left out.

    Args:
        postprocessing: the saved choice of evaluation, for a checkpoint.
        usual: options of a checkpoint, unless ``prediction`` has others.
        model: the other arguments of ``choose_predictor``.

    Raises:
        ValueError: as ``find_images``, ``choose_predictor`` and ``predict_folder``.
    """
    predictor = choose_predictor(
        **model,
        postprocessing=Postprocessing.chosen(postprocessing),
        prediction=(usual.resolved(postprocessing), prediction),
        device=pick_device(device),
    )
    table = listed_images(images)
    result = predict_folder(table, predictor, folder, settings=settings, workers=num_workers, batch_size=batch_size)
    if failed := len(result.findings):
        told = failed, len(table), folder / "findings.csv"
        log.warning("%d of %d images could not be predicted; %s says why", *told)
    return Predicted(table, predictor.bundle, result)
