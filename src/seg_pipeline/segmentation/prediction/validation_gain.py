"""Validation images to make choices on, and the units to resample for the confidence interval of a gain."""

from collections.abc import Iterator

import pandas as pd

from seg_pipeline.segmentation.manifest.table import refuse_test
from seg_pipeline.segmentation.training.run import fold_split


def validation_runs(
    train_val_images: pd.DataFrame, checkpoint: dict, purpose: str
) -> Iterator[tuple[pd.DataFrame, dict]]:
    """Yield validation images together with a checkpoint of the model that was not trained on them.

    For one model these are the images of the val split; for one model per fold, each fold with its own model.

    Args:
        train_val_images: the manifest without the test split.
        purpose: end of the error message "images of the test split would be read to".

    Raises:
        ValueError: ``train_val_images`` contains images of the test split.
    """
    refuse_test(train_val_images, purpose)
    folds = checkpoint["folds"]
    for fold, trained in enumerate(checkpoint["models"]):
        split = fold_split(train_val_images, fold, folds) if folds else train_val_images
        yield split[split["split"] == "val"], {**checkpoint, "models": [trained]}


def resampled_by(rows: pd.DataFrame) -> tuple[str, pd.Series]:
    """Units to resample for the interval of a gain (groups; images if there is only one group), and each row's unit."""
    if rows["group"].nunique() > 1:
        return "groups", rows["group"]
    return "images", rows["image_id"]
