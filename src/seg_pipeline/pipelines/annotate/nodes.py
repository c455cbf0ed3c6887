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
    """Write annotation files; return each polygon's points and IoU with its region, and the images that failed."""
    folder = Path(params.output_folder) if params.output_folder else folder
    images, bundle, result = seg.inference.predict_new_images(
        **inference.images_and_model(),
        folder=folder / "predicted",
        settings=seg.inference.OutputSettings(formats=()),
        checkpoint=trained_checkpoint,
        bundle=exported_bundle,
        postprocessing=postprocessing,
        default=prediction,
    )
    style = seg.formats.Style(params.shapes, params.polygon_iou, params.image_url)
    polygons = seg.inference.annotate(params.tools, folder, result.records, images, bundle, style, params.images)
    log.info("%d images, %d polygons -> %s (%s)", len(result.records), len(polygons), folder, ", ".join(params.tools))
    return polygons, result.findings
