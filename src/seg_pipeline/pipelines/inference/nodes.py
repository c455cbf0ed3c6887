"""Masks of images that the project has not seen."""

from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import InferenceParams
from seg_pipeline.pipelines import Bundle, DataFrame
from seg_pipeline.segmentation.settings.training import PredictSettings


def predict_images(
    trained_checkpoint: dict | None,
    exported_bundle: Bundle | None,
    postprocessing: dict | None,
    prediction: PredictSettings,
    params: InferenceParams,
    folder: Path,
) -> tuple[DataFrame, DataFrame]:
    """Write masks to the folder; return area and confidence per class and image, and the images that failed."""
    result = seg.inference.predict_new_images(
        **params.images_and_model(),
        folder=Path(params.output_folder) if params.output_folder else folder,
        settings=seg.inference.OutputSettings(formats=tuple(params.formats), rle_order=params.rle_order),
        checkpoint=trained_checkpoint,
        bundle=exported_bundle,
        postprocessing=postprocessing,
        default=prediction,
    ).result
    return result.areas, result.findings
