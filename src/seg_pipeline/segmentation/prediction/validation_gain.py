"""Predictions of validation images, and the units to resample for the confidence interval of a gain."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd
import torch
from torch import Tensor

from seg_pipeline.segmentation.manifest.table import refuse_test, spread
from seg_pipeline.segmentation.prediction.predict_images import NO_OPTIONS, config_of, predict_each, used_models
from seg_pipeline.segmentation.settings.training import PredictSettings
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.run import fold_split

Result = TypeVar("Result")


@dataclass(frozen=True)
class Validation:
    """Predicts the validation images, each with a model that was not trained on it."""

    train_val_images: pd.DataFrame
    checkpoint: dict
    device: torch.device
    batch_size: int = 16
    prediction: PredictSettings = NO_OPTIONS
    workers: int | None = None

    @property
    def config(self) -> TrainingConfig:
        return config_of(self.checkpoint)

    def __len__(self) -> int:
        """Number of validation images: all of them if there is a model per fold."""
        rows = self.train_val_images
        return len(rows) if self.checkpoint["folds"] else int((rows["split"] == "val").sum())

    def predict(
        self, measure: Callable[[dict, Tensor], Result], max_images: int | None = None
    ) -> tuple[pd.DataFrame, list[Result]]:
        """The images (at most ``max_images`` per model, evenly spread), and ``measure`` of each one's probabilities."""
        parts: list[pd.DataFrame] = []
        results: list[Result] = []
        for rows, saved in validation_runs(self.train_val_images, self.checkpoint, "choose the postprocessing"):
            sample = rows if max_images is None else spread(rows, max_images)
            results += predict_each(
                used_models(saved, self.device, self.prediction),
                sample,
                measure,
                device=self.device,
                batch_size=self.batch_size,
                settings=self.prediction,
                workers=self.workers,
            )
            parts.append(sample)
        return pd.concat(parts, ignore_index=True), results


def validation_runs(
    train_val_images: pd.DataFrame, checkpoint: dict, purpose: str
) -> Iterator[tuple[pd.DataFrame, dict]]:
    """Yield validation images together with a checkpoint of the model that was not trained on them.

    For one model these are the images of the val split; for one model per fold, each fold with its own model.

    Args:
        train_val_images: the manifest without the test split.
        purpose: completes the error message "images of the test split would be read to ...".

    Raises:
        ValueError: ``train_val_images`` contains images of the test split.
    """
    refuse_test(train_val_images, purpose)
    folds = checkpoint["folds"]
    for fold, trained in enumerate(checkpoint["models"]):
        split = fold_split(train_val_images, fold, folds) if folds else train_val_images
        yield split[split["split"] == "val"], {**checkpoint, "models": [trained]}


def resampling_units(rows: pd.DataFrame) -> tuple[str, pd.Series]:
    """Units to resample for the interval of a gain (groups; images if there is only one group), and each row's unit."""
    if rows["group"].nunique() > 1:
        return "groups", rows["group"]
    return "images", rows["image_id"]
