"""Agreement between several people who annotated the same image in a label tool."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = {"image_id": "str", "class": "str", "annotators": "int64", "dice": "float64", "kappa": "float64"}


def annotator_agreement(metadata: pd.DataFrame, class_values: Mapping[str, str]) -> pd.DataFrame:
    """Agreement per class and image, for images with several annotators and classes that one of them marked.

    Args:
        metadata: an annotation table; its column ``compared``, if it has one, holds the counts of
            ``label_tools.table.compared``.
        class_values: name of each class -> its name in the annotations.

    Returns:
        Table with ``COLUMNS``: number of annotators, and the means over pairs of annotators of Dice and Cohen's kappa.
    """
    return pd.DataFrame(_rows(metadata, class_values), columns=list(COLUMNS)).astype(COLUMNS)


def _rows(metadata: pd.DataFrame, class_values: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    if "compared" not in metadata:
        return
    from seg_pipeline.segmentation.metrics.agreement import kappa  # needs torch, and few tables have annotators

    for row in metadata[metadata["compared"].notna()].to_dict("records"):
        compared = json.loads(row["compared"])
        for name, value in class_values.items():
            if value in compared["pairs"]:
                both, first, second = np.array(compared["pairs"][value], dtype=float).T
                dice = 2 * both / np.maximum(2 * both + first + second, 1)
                kappas = kappa(both, second, first, np.full(len(both), float(compared["pixels"])))
                marked = both + first + second > 0
                if not marked.any():
                    continue
                yield row["image_id"], name, compared["annotators"], dice[marked].mean(), kappas[marked].mean()


def annotator_dice(table: pd.DataFrame, image_ids: pd.Series) -> dict[str, Any] | None:
    """Dice between annotators on some images: num_images, mean_dice, and `dice` per class; None without such images.

    A class is averaged over images, and mean_dice over classes, as in scores aggregated by image.
    """
    rows = table[table["image_id"].isin(image_ids)]
    if rows.empty:
        return None
    classes = rows.groupby("class", sort=False)["dice"].mean()
    return {
        "num_images": int(rows["image_id"].nunique()),
        "mean_dice": float(classes.mean()),
        "classes": {name: {"dice": float(value)} for name, value in classes.items()},
    }
