"""Checkpoint -> postprocessing chosen on val -> predictions of the test split -> scores.

The only pipeline that scores the test split; its first two nodes read `train_val_images`, which lacks it.
"""

from seg_pipeline import segmentation as seg
from seg_pipeline.params import EvaluationParams
from seg_pipeline.pipelines import DataFrame
from seg_pipeline.segmentation.settings.training import PredictSettings, ScoreSettings


def choose_postprocessing(
    train_val_images: DataFrame,
    checkpoint: dict,
    scores: ScoreSettings,
    prediction: PredictSettings,
    params: EvaluationParams,
    seed: int,
    options: DataFrame,
) -> tuple[dict, DataFrame]:
    """Choose the steps that help on validation images, and what `prediction.tta: auto` means; Dice by threshold."""
    resolved = {"tta": seg.prediction.choose_tta(options)} if prediction.tta == "auto" else {}
    steps, curve = seg.prediction.choose_postprocessing(
        train_val_images,
        checkpoint,
        device=seg.training.pick_device(params.device),
        batch_size=params.batch_size,
        prediction=prediction.resolved(resolved),
        aggregator=seg.metrics.Aggregator.from_settings(scores, params.measures, seed),
        confidence=params.measures.confidence,
        choices=seg.prediction.Choices(params.postprocess, params.calibrate, params.review),
        workers=params.num_workers,
    )
    return {**steps, **resolved}, curve


def measure_options(
    train_val_images: DataFrame,
    checkpoint: dict,
    scores: ScoreSettings,
    prediction: PredictSettings,
    params: EvaluationParams,
    seed: int,
) -> DataFrame:
    """Measure gain and cost of each prediction option on validation images."""
    return seg.prediction.measure_options(
        train_val_images,
        checkpoint,
        device=seg.training.pick_device(params.device),
        batch_size=params.batch_size,
        prediction=prediction,
        aggregator=seg.metrics.Aggregator.from_settings(scores, params.measures, seed),
        confidence=params.measures.confidence,
        max_images=params.option_images,
        workers=params.num_workers,
    )


def predict_test(
    manifest: DataFrame,
    checkpoint: dict,
    postprocessing: dict,
    prediction: PredictSettings,
    params: EvaluationParams,
) -> tuple[DataFrame, DataFrame]:
    """Predict masks of the test split (else val) at native size; also measure how calibrated the probabilities are."""
    steps = seg.prediction.Postprocessing.from_dict(postprocessing["settings"])
    plain, calibration = (seg.metrics.Calibration(postprocessing["classes"]) for _ in range(2))
    predictions = seg.prediction.predict_masks(
        seg.metrics.scored_rows(manifest),
        checkpoint,
        device=seg.training.pick_device(params.device),
        batch_size=params.batch_size,
        postprocessing=steps,
        settings=prediction.resolved(postprocessing),
        calibration=calibration if steps.temperatures else None,
        uncalibrated=plain,
        workers=params.num_workers,
    )
    return predictions, seg.metrics.before_and_after(plain, calibration if steps.temperatures else None)


def score_predictions(
    manifest: DataFrame,
    predictions: DataFrame,
    reliability: DataFrame,
    scores: ScoreSettings,
    params: EvaluationParams,
    seed: int,
) -> tuple[dict, DataFrame, DataFrame, DataFrame, DataFrame]:
    """Score the test split, its images, groups and series, and the review flags; also count the confusion matrix."""
    scored = seg.metrics.score_predictions(
        seg.metrics.scored_rows(manifest),
        predictions,
        scores=scores,
        measures=params.measures,
        seed=seed,
        reliability=reliability,
        workers=params.num_workers,
    )
    scored.scores["review"] = seg.metrics.score_flags(
        scored.images,
        predictions,
        dice_below=params.review.dice_below,
        repeats=params.measures.repeats,
        seed=seed,
        confidence=params.measures.confidence,
    )
    return scored
