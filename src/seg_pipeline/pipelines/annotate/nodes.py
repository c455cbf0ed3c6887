"""Predictions as annotations of label tools."""

import logging
from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import AnnotateParams, InferenceParams
from seg_pipeline.pipelines import Bundle, DataFrame
from seg_pipeline.segmentation.settings.training import PredictSettings

log = logging.getLogger(__name__)


def write_annotations(
    trained_checkpoint: dict | None,
    exported_bundle: Bundle | None,
    postprocessing: dict | None,
    prediction: PredictSettings,
    inference: InferenceParams,
    params: AnnotateParams,
    folder: Path,
) -> tuple[DataFrame, DataFrame]:
    """Files in the folder; each polygon's points and IoU with its region, and the images that could not be used."""
    if inference.images is None:
        raise ValueError("`inference.images` says what to annotate: `--params inference.images=FOLDER`")
    predictor = seg.prediction.choose_predictor(
        inference.model,
        checkpoint=trained_checkpoint,
        bundle=exported_bundle,
        bundle_format=inference.bundle_format,
        postprocessing=seg.prediction.Postprocessing.chosen(postprocessing),
        prediction=(prediction, inference.prediction),
        source=inference.source,
        device=seg.training.pick_device(inference.device),
    )
    images, _ = seg.inference.find_images(inference.images)
    folder = Path(params.output_folder) if params.output_folder else folder
    result = seg.inference.predict_folder(
        images,
        predictor,
        folder / "predicted",
        settings=seg.inference.OutputSettings(formats=()),
        workers=inference.num_workers,
        batch_size=inference.batch_size,
    )
    style = seg.formats.Style(params.shapes, params.polygon_iou, params.image_url)
    polygons = seg.inference.annotate(
        params.tools, folder, result.records, images, predictor.bundle, style, params.images
    )
    log.info("%d images, %d polygons -> %s (%s)", len(result.records), len(polygons), folder, ", ".join(params.tools))
    if failed := len(result.findings):
        log.warning("%d of %d images could not be predicted; predicted/findings.csv says why", failed, len(images))
    return polygons, result.findings
