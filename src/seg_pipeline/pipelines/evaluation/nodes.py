"""Checkpoint -> predictions and scores. The only pipeline that scores the test split."""

from __future__ import annotations

import pandas as pd

from seg_pipeline import segmentation as seg
from seg_pipeline.params import EvaluationParams
from seg_pipeline.segmentation.recipe import ScoreSettings


def predict_test(
    manifest: pd.DataFrame, checkpoint: dict, scores: ScoreSettings, params: EvaluationParams
) -> pd.DataFrame:
    """Predicted masks of the test split at native size."""
    return seg.predict.predict_masks(
        manifest[manifest["split"] == "test"],
        checkpoint,
        device=seg.devices.pick_device(params.device),
        batch_size=params.batch_size,
        threshold=scores.threshold,
    )


def score_predictions(
    manifest: pd.DataFrame, predictions: pd.DataFrame, scores: ScoreSettings
) -> tuple[dict, pd.DataFrame, pd.DataFrame]:
    """Scores of the test split, of each of its images, and the confusion matrix."""
    return seg.scoring.score_predictions(
        manifest, predictions, aggregation=scores.aggregation, empty_policy=scores.empty_policy
    )
