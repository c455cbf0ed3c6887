"""Images that choices are made on, and whether a gain on them is more than chance."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from seg_pipeline.segmentation.manifest.table import refuse_test
from seg_pipeline.segmentation.training.run import fold_split


def validation_runs(
    train_val_images: pd.DataFrame, checkpoint: dict, purpose: str
) -> Iterator[tuple[pd.DataFrame, dict]]:
    """Images, each with a checkpoint of the model that did not learn from them.

    One model: those of the val split. A model a fold: each fold, with the model that it validated.

    Args:
        train_val_images: the manifest without the test split.
        purpose: ends the sentence "images of the test split would be read to".

    Raises:
        ValueError: there are images of the test split.
    """
    refuse_test(train_val_images, purpose)
    folds = checkpoint["folds"]
    for fold, member in enumerate(checkpoint["members"]):
        split = fold_split(train_val_images, fold, folds) if folds else train_val_images
        yield split[split["split"] == "val"], {**checkpoint, "members": [member]}


def resampled_by(rows: pd.DataFrame) -> tuple[str, pd.Series]:
    """What is drawn anew to see how far a gain depends on chance: groups, or images where there is one group."""
    if rows["group"].nunique() > 1:
        return "groups", rows["group"]
    return "images", rows["image_id"]
