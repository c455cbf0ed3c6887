"""Masks of images that the project has not seen."""

import logging
from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import InferenceParams
from seg_pipeline.pipelines import Bundle, DataFrame
from seg_pipeline.segmentation.settings.training import PredictSettings

log = logging.getLogger(__name__)


def predict_images(
    trained_checkpoint: dict | None,
    exported_bundle: Bundle | None,
    postprocessing: dict | None,
    prediction: PredictSettings,
    params: InferenceParams,
    folder: Path,
) -> tuple[DataFrame, DataFrame]:
    """Files in the folder; area and confidence of each class and image, and the images that could not be used."""
    if params.images is None:
        raise ValueError(
            "`inference.images` says what to predict: `--params inference.images=FOLDER`, or a glob or list"
        )
    predictor = seg.prediction.choose_predictor(
        params.model,
        checkpoint=trained_checkpoint,
        bundle=exported_bundle,
        bundle_format=params.bundle_format,
        postprocessing=seg.prediction.Postprocessing.chosen(postprocessing),
        prediction=(prediction, params.prediction),
        source=params.source,
        device=seg.training.pick_device(params.device),
    )
    images, num_skipped = seg.inference.find_images(params.images)
    if num_skipped:
        log.warning("%d files of %s are skipped: no known image suffix", num_skipped, params.images)
    result = seg.inference.predict_folder(
        images,
        predictor,
        Path(params.output_folder) if params.output_folder else folder,
        settings=seg.inference.OutputSettings(formats=tuple(params.formats), rle_order=params.rle_order),
        workers=params.num_workers,
        batch_size=params.batch_size,
    )
    if len(result.findings):
        log.warning("%d of %d images could not be predicted; findings.csv says why", len(result.findings), len(images))
    return result.areas, result.findings
