"""The trained model as a bundle of files, accepted once its masks are known to be the trained model's."""

from __future__ import annotations

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
    """All formats asked for, int8 calibrated on train images."""
    bundle = seg.export.make_bundle(
        checkpoint,
        unverified_bundle,
        formats=[bundle_format for bundle_format in params.formats if bundle_format != "int8"],
        postprocessing=seg.prediction.Postprocessing.from_dict(postprocessing["settings"]) if postprocessing else None,
        prediction=prediction,
    )
    if "int8" not in params.formats:
        return bundle
    train = train_val_images[train_val_images["split"] == "train"]
    return seg.export.add_int8(bundle, seg.export.spread(train, params.calibration_images))


def check_reduced_precision(
    drafted: Bundle, checkpoint: dict, train_val_images: DataFrame, scores: ScoreSettings, params: ExportParams
) -> Bundle:
    """Without those of int8 and bf16 that cost too much Dice on validation images."""
    rows = seg.export.spread(seg.export.judged_rows(train_val_images), params.quality_images)
    return seg.export.judge(drafted, checkpoint, rows, scores, max_drop=params.max_dice_drop)


def compare_formats(
    judged: Bundle, checkpoint: dict, train_val_images: DataFrame, scores: ScoreSettings, params: ExportParams
) -> DataFrame:
    """Differences of each format to the trained model, from file to mask."""
    rows = seg.export.judged_rows(train_val_images)
    return seg.export.compare_formats(judged, checkpoint, rows, params.parity, scores)


def accept_bundle(judged: Bundle, export_parity: DataFrame) -> Bundle:
    """Stops the run where a difference is beyond its limit; the bundle before stays then."""
    seg.export.refuse_differences(export_parity)
    return judged
