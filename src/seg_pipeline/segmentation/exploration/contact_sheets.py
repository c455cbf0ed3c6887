"""Contact sheets of images from the manifest, and the figures drawn during training."""

import time

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from seg_pipeline.segmentation.data.augmentation import PRESETS, make_augmentation
from seg_pipeline.segmentation.data.datasets import Draw, make_dataset
from seg_pipeline.segmentation.images.intensities import read_for_display
from seg_pipeline.segmentation.manifest.table import class_names, read_shown_masks, spread
from seg_pipeline.segmentation.plotting.contact_sheets import plot_augmentations, plot_predictions, plot_samples
from seg_pipeline.segmentation.plotting.curves import plot_history
from seg_pipeline.segmentation.plotting.style import class_colours
from seg_pipeline.segmentation.prediction.predict_images import plain_masks, predict_masks
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.run import Saved, fold_split

MANY_CLASSES = 16  # with more, only the masks of classes that occur are decoded
PANEL = 300
"""Approximate longer side of an image on a sheet, in pixels."""
NUM_DRAWS = 4
"""Augmented draws per preset on the augmentation sheet."""
NUM_PREDICTIONS = 3
"""Validation images whose predictions are shown during training."""
DRAWING_SHARE = 0.01
"""Maximum share of training time spent on drawing figures, not counting the first and the last."""


def sample_sheet(rows: pd.DataFrame, *, note: str) -> Figure:
    """Contact sheet of these manifest rows; ``note`` explains how they were chosen."""
    names = class_names(rows)
    colours = class_colours(len(names))
    if len(names) > MANY_CLASSES:
        shown = [index for index, name in enumerate(names) if (rows[f"area_{name}"] > 0).any()] or [0]
        names, colours = [names[index] for index in shown], colours[shown]
    return plot_samples(
        *_images_and_masks(rows, names),
        [f"{image_id} ({split})" for image_id, split in zip(rows["image_id"], rows["split"], strict=True)],
        names,
        colours=colours,
        title=f"Samples ({note}): image, masks, overlay",
    )


def prediction_sheet(
    manifest: pd.DataFrame, predictions: pd.DataFrame, image_scores: pd.DataFrame, *, num_images: int
) -> Figure:
    """Contact sheet of predictions, from the lowest to the highest mean Dice in even steps."""
    names = class_names(manifest)
    ranked = image_scores.groupby("image_id")["dice"].mean().dropna().sort_values(kind="stable")
    picked = spread(ranked, num_images)
    rows = manifest.set_index("image_id").loc[picked.index]
    return plot_predictions(
        *_images_and_masks(rows, names),
        _masks(predictions.set_index("image_id").loc[picked.index].assign(ignore=""), names),
        [f"{image_id}, Dice {score:.2f}" for image_id, score in picked.items()],
        names,
        title=f"Predictions on {rows['split'].iloc[0]} images, from the lowest to the highest Dice",
    )


def augmentation_sheet(rows: pd.DataFrame, config: TrainingConfig) -> Figure:
    """Contact sheet of one image under each augmentation preset; the one in use is marked."""
    row = images_with_most_classes(rows, 1)
    sampling, rgb = config.sampling, config.input.channels == "rgb"
    chosen = None if sampling.albumentations else sampling.augmentation
    images, masks = [], []
    for name in PRESETS:
        dataset = make_dataset(
            row,
            config.input,
            task=config.task,
            background=config.background,
            augmentation=make_augmentation(name, rgb=rgb),
            seed=config.seed,
        )
        samples = [dataset[0], *(dataset[Draw(epoch, 0)] for epoch in range(NUM_DRAWS))]
        images.append([input_to_rgb(image.numpy()) for image, _ in samples])
        masks.append([target_to_masks(truth.numpy(), config) for _, truth in samples])
    titles = [f"{name} (in use)" if name == chosen else name for name in PRESETS]
    (image_id,) = row["image_id"]
    return plot_augmentations(images, masks, titles, list(config.classes), title=f"Augmentation presets on {image_id}")


def _images_and_masks(rows: pd.DataFrame, names: list[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [read_for_display(path) for path in rows["path"]], _masks(rows, names)


def _masks(rows: pd.DataFrame, names: list[str]) -> list[np.ndarray]:
    """Bool (C, H, W) of each row."""
    return [read_shown_masks(row, names, side=PANEL) for row in rows.to_dict("records")]


def input_to_rgb(image: np.ndarray) -> np.ndarray:
    """A network input (K, H, W) as an image, uint8 (H, W, 3): its three channels, or its middle channel as grey."""
    colours = image if len(image) == 3 else image[[len(image) // 2] * 3]
    return np.ascontiguousarray(colours.transpose(1, 2, 0))


def target_to_masks(truth: np.ndarray, config: TrainingConfig) -> np.ndarray:
    """A training target as bool masks (C, H, W)."""
    if config.task == "multilabel":
        return truth[: len(config.classes)] == 1
    return truth == np.arange(config.background, config.num_channels)[:, None, None]


class TrainingFigures:
    """Training curves, and predictions on fixed validation images, redrawn during training.

    Predicting and drawing take time, so figures are redrawn only after the training has run for 1 / ``DRAWING_SHARE``
    times as long as the last drawing took.
    """

    def __init__(self, manifest: pd.DataFrame) -> None:
        self.manifest = manifest
        self._figures: tuple[Figure, Figure] | None = None
        self._next_drawing = 0.0

    def update(self, state: Saved) -> tuple[Figure, Figure]:
        """Curves and contact sheet of the current state, or the previous ones if it is too early to redraw."""
        start = time.monotonic()
        if self._figures is None or start >= self._next_drawing or state.last["current"]["finished"]:
            self._figures = plot_history(state.history), self._sheet(state)
            end = time.monotonic()
            self._next_drawing = end + (end - start) / DRAWING_SHARE
        return self._figures

    def _sheet(self, state: Saved) -> Figure:
        names, trained = class_names(self.manifest), state.best["models"][-1]
        fold, folds = len(state.best["models"]) - 1, state.best["folds"]
        val = fold_split(self.manifest, fold, folds) if folds else self.manifest
        rows = images_with_most_classes(val[val["split"] == "val"], NUM_PREDICTIONS)
        config = TrainingConfig.from_dict(trained["config"])
        predictions = predict_masks(
            rows,
            {**state.best, "models": [trained]},
            device=torch.device("cpu"),
            batch_size=1,
            postprocessing=plain_masks(config),
        )
        epoch = f"epoch {trained['row']['epoch']}" + (f" of fold {fold + 1}" if folds else "")
        return plot_predictions(
            *_images_and_masks(rows, names),
            _masks(predictions.assign(ignore=""), names),
            rows["image_id"].tolist(),
            names,
            title=f"Predictions on validation images, {epoch}",
        )


def images_with_most_classes(rows: pd.DataFrame, number: int) -> pd.DataFrame:
    """The ``number`` images with the most classes, then the largest masks, from as many groups as possible."""
    areas = rows[[f"area_{name}" for name in class_names(rows)]]
    ranked = rows.assign(_shown=(areas > 0).sum(axis=1), _area=areas.sum(axis=1))
    ranked = ranked.sort_values(["_shown", "_area"], ascending=False, kind="stable")
    turn = ranked.groupby("group").cumcount()
    return ranked.assign(_turn=turn).sort_values("_turn", kind="stable").head(number)[list(rows)]
