"""Sheets of images picked from the manifest."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seg_pipeline.segmentation import plotting
from seg_pipeline.segmentation.images import read_image, to_rgb8
from seg_pipeline.segmentation.manifest import class_names, read_masks

WINDOW = (1, 99)
"""Percentiles that become black and white in pictures of 16-bit images."""

MANY_CLASSES = 16


def sample_sheet(rows: pd.DataFrame, *, note: str) -> Figure:
    """These images of the manifest in their order; ``note`` says how they were picked."""
    names = class_names(rows)
    colours = plotting.class_colours(len(names))
    if len(names) > MANY_CLASSES:  # decode only what occurs
        shown = [index for index, name in enumerate(names) if (rows[f"area_{name}"] > 0).any()] or [0]
        names, colours = [names[index] for index in shown], colours[shown]
    records = rows.to_dict("records")
    return plotting.plot_samples(
        [picture(row) for row in records],
        [read_masks(row, names) == 1 for row in records],
        [f"{row['image_id']} ({row['split']})" for row in records],
        names,
        colours=colours,
        title=f"Samples ({note}): image, masks, overlay",
    )


def prediction_sheet(
    manifest: pd.DataFrame, predictions: pd.DataFrame, image_scores: pd.DataFrame, *, num_images: int
) -> Figure:
    """Images spread evenly from the lowest to the highest mean Dice, truth beside prediction."""
    names = class_names(manifest)
    ranked = image_scores.groupby("image_id")["dice"].mean().dropna().sort_values(kind="stable")
    picked = ranked.iloc[np.unique(np.linspace(0, len(ranked) - 1, num_images).round().astype(int))]
    truths = manifest.set_index("image_id").loc[picked.index].to_dict("records")
    guesses = predictions.set_index("image_id").loc[picked.index].assign(ignore="").to_dict("records")
    return plotting.plot_predictions(
        [picture(row) for row in truths],
        [read_masks(row, names) == 1 for row in truths],
        [read_masks(row, names) == 1 for row in guesses],
        [f"{image_id}, Dice {score:.2f}" for image_id, score in picked.items()],
        names,
    )


def picture(row: dict) -> np.ndarray:
    """The image of a manifest row for people to look at: uint8 (H, W, 3)."""
    return to_rgb8(read_image(row["path"]), window=WINDOW if row["dtype"] == "uint16" else None)
