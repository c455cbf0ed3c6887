"""Export the trained model as a bundle of files, and accept it if its masks equal the trained model's."""

from pathlib import Path

from seg_pipeline import segmentation as seg
from seg_pipeline.params import ExportParams
from seg_pipeline.pipelines import Bundle, DataFrame
from seg_pipeline.segmentation.settings.training import PredictSettings, ScoreSettings


def build_bundle(
    checkpoint: dict,
    postprocessing: dict | None,
    train_val_images: DataFrame,
    prediction: PredictSettings,
    params: ExportParams,
    unverified_bundle: Path,
) -> Bundle:
    """Write all requested formats; int8 is calibrated on train images."""
    bundle = seg.export.make_bundle(
        checkpoint,
        unverified_bundle,
        formats=[bundle_format for bundle_format in params.formats if bundle_format != "int8"],
        postprocessing=seg.prediction.Postprocessing.chosen(postprocessing),
        prediction=prediction.resolved(postprocessing),
    )
    if "int8" not in params.formats:
        return bundle
    train = train_val_images[train_val_images["split"] == "train"]
    return seg.export.add_int8(bundle, seg.manifest.spread(train, params.calibration_images))


def check_reduced_precision(
    bundle: Bundle, checkpoint: dict, train_val_images: DataFrame, scores: ScoreSettings, params: ExportParams
) -> Bundle:
    """Drop int8 and bf16 if they cost too much Dice on validation images."""
    rows = seg.manifest.spread(seg.export.validation_rows(train_val_images), params.quality_images)
    return seg.export.drop_inaccurate_formats(bundle, checkpoint, rows, scores, max_drop=params.max_dice_drop)


def compare_formats(
    bundle: Bundle, checkpoint: dict, train_val_images: DataFrame, scores: ScoreSettings, params: ExportParams
) -> DataFrame:
    """Compare each format with the trained model, from file to mask."""
    rows = seg.export.validation_rows(train_val_images)
    return seg.export.compare_formats(bundle, checkpoint, rows, params.parity, scores)


def verify_bundle(bundle: Bundle, export_parity: DataFrame) -> Bundle:
    """Stop the run if a difference exceeds its limit; the previous bundle is then kept."""
    seg.export.refuse_differences(export_parity)
    return bundle
