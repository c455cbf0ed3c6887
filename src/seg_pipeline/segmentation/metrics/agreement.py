"""Agreement between two readers of the same images; the second reader's masks are scored against the first's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.masks import decode_rle, encode_rle
from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED, class_names
from seg_pipeline.segmentation.metrics.confidence_intervals import group_sums, resampled_sums
from seg_pipeline.segmentation.metrics.counting import unit_of
from seg_pipeline.segmentation.metrics.run_comparison import MANIFEST
from seg_pipeline.segmentation.metrics.split_scores import score_predictions
from seg_pipeline.segmentation.metrics.summary import add_score, plain
from seg_pipeline.segmentation.settings.training import MeasureSettings, ScoreSettings

LIMITS = 1.96
"""Standard deviations between the mean difference and a limit of agreement (Bland and Altman 1986)."""


class Agreement(NamedTuple):
    scores: dict
    """Scores as from ``score_predictions``, with `kappa` and `area_difference` per class, `by_split`, and the classes
    and numbers of images that only one reader has."""
    images: pd.DataFrame
    """One row per image and class: image_id, group, class, dice, iou, surface_dice, hd95, areas of both readers."""


def read_other_manifest(data_root: str | None) -> pd.DataFrame:
    """Manifest of the other reader's environment.

    Raises:
        ValueError: ``data_root`` is None, or the folder has no manifest.
    """
    if data_root is None:
        raise ValueError(
            "no other reader: set `agreement.compare_with` to the data_root of the environment with their masks"
        )
    file = Path(data_root) / MANIFEST
    if not file.exists():
        raise ValueError(
            f"`agreement.compare_with`: there is no {file}; run `kedro run --pipeline data_processing` in the "
            "environment with the other reader's masks, and use its data_root"
        )
    return pd.read_parquet(file)


def compare_readers(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    scores: ScoreSettings,
    measures: MeasureSettings,
    seed: int,
    workers: int | None = None,
) -> Agreement:
    """Compare the masks of two manifests, for the classes and images that both have.

    Pixels that either reader ignores, and classes that either did not annotate in an image, are left out.

    Raises:
        ValueError: the readers share no class or image, or images with the same id have different pixels.
    """
    names = _common_classes(first, second)
    rows, others = _common_images(first, second)
    rows, others = _comparable(rows, others, names)
    scored = score_predictions(
        rows.assign(source=rows["split"], split="compared"),
        others,
        scores=scores,
        measures=measures,
        seed=seed,
        workers=workers,
    )
    result = {
        name: value for name, value in scored.scores.items() if name not in ("split", "calibration", "competition")
    }
    result["by_split"] = result.pop("by_source")
    images, unit = _areas(scored.images, rows)
    kappas = _kappas(scored.images, rows, names, seed, measures)
    add_score(result, result["classes"], "kappa", kappas, measures.confidence)
    for name, class_scores in result["classes"].items():
        class_scores["area_difference"] = bland_altman(images[images["class"] == name])
    result |= {
        "area_unit": unit,
        "only_first": {"classes": _without(first, names), "num_images": len(first) - len(rows)},
        "only_second": {"classes": _without(second, names), "num_images": len(second) - len(rows)},
    }
    return Agreement(result, images)


def kappa(true_pos: np.ndarray, false_pos: np.ndarray, false_neg: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Cohen's kappa of "class or not" at each pixel (Cohen 1960): agreement beyond chance; NaN if chance is certain."""
    first_area, second_area = true_pos + false_neg, true_pos + false_pos
    observed = (pixels - false_pos - false_neg) * pixels
    chance = first_area * second_area + (pixels - first_area) * (pixels - second_area)
    denominator = pixels * pixels - chance
    return np.divide(
        observed - chance, denominator, out=np.full(np.shape(denominator), math.nan), where=denominator > 0
    )


def bland_altman(rows: pd.DataFrame) -> dict:
    """Mean difference of the areas, second minus first, its standard deviation and limits of agreement.

    Includes only images in which either reader drew the class. A single image has no limits.
    """
    drawn = rows[(rows["first_area"] > 0) | (rows["second_area"] > 0)]
    difference = drawn["second_area"] - drawn["first_area"]
    mean, deviation = float(difference.mean()), float(difference.std())
    limits = [mean - LIMITS * deviation, mean + LIMITS * deviation]
    return {
        "num_images": len(drawn),
        "mean": plain(mean),
        "deviation": plain(deviation),
        "limits": None if math.isnan(deviation) else limits,
    }


def _common_classes(first: pd.DataFrame, second: pd.DataFrame) -> list[str]:
    second_names = class_names(second)
    names = [name for name in class_names(first) if name in second_names]
    if not names:
        raise ValueError(
            f"the readers have no class in common: the first has {class_names(first)}, the second {second_names}; give "
            "the classes the same names in both environments (`dataset.classes`)"
        )
    return names


def _without(manifest: pd.DataFrame, names: list[str]) -> list[str]:
    return [name for name in class_names(manifest) if name not in names]


def _common_images(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the images that both manifests have, in the order of the first."""
    rows = first[first["image_id"].isin(second["image_id"])].reset_index(drop=True)
    if rows.empty:
        raise ValueError(
            f"the readers have no image in common: the ids are like {first['image_id'].iloc[0]!r} and "
            f"{second['image_id'].iloc[0]!r}; give the images the same ids in both environments"
        )
    others = rows[["image_id"]].merge(second, on="image_id", validate="one_to_one")
    changed = rows["image_id"][rows["content_hash"].to_numpy() != others["content_hash"].to_numpy()].tolist()
    if changed:
        raise ValueError(
            f"{len(changed)} of {len(rows)} images have the same id but different pixels ({', '.join(changed[:3])}); "
            "both readers must annotate the same images"
        )
    return rows, others


def _comparable(rows: pd.DataFrame, others: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The first reader's masks as ground truth, without pixels that either ignores, and the second's as predictions."""
    masks = [f"mask_{name}" for name in names]
    left_out = [f"mask_{name}" for name in class_names(rows) if name not in names]
    unknown = others[masks] == NOT_ANNOTATED
    sides = zip(rows["ignore"], others["ignore"], rows["height"], rows["width"], strict=True)
    ignored = [_joined(first, second, (height, width)) for first, second, height, width in sides]
    truth = rows[masks].mask(unknown, NOT_ANNOTATED)
    predictions = others[masks].mask(unknown, "").assign(**{f"peak_{name}": 1.0 for name in names})
    ids = rows[["image_id", "height", "width"]]
    return rows.drop(columns=left_out).assign(ignore=ignored, **truth), pd.concat([ids, predictions], axis=1)


def _areas(images: pd.DataFrame, rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The table of images with areas in place of pixel counts, and their unit."""
    in_mm = unit_of(rows) == "mm"
    size = (rows["spacing_y"] * rows["spacing_x"]).to_numpy() if in_mm else np.ones(len(rows))
    sizes = np.tile(size, len(images) // len(rows))
    table = images[["image_id", "group", "series", "class", "dice", "iou", "surface_dice", "hd95"]].assign(
        first_area=images["truth_area"] * sizes, second_area=images["predicted_area"] * sizes
    )
    return table, "mm²" if in_mm else "pixels"


def _kappas(
    images: pd.DataFrame, rows: pd.DataFrame, names: list[str], seed: int, measures: MeasureSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Kappa over the pixels of all images, (C,), and of each resample of the groups (repeats, C)."""
    counts = images[["true_pos", "false_pos", "false_neg"]].to_numpy(dtype=float)
    known = [
        0 if row[f"mask_{name}"] == NOT_ANNOTATED else row["height"] * row["width"] - row["ignored"]
        for name in names
        for row in rows.assign(ignored=[_area(runs) for runs in rows["ignore"]]).to_dict("records")
    ]
    table = np.concatenate([counts, np.array(known, dtype=float)[:, None]], axis=1)
    parts = table.reshape(len(names), len(rows), 4).transpose(1, 2, 0).reshape(len(rows), -1)
    sums = group_sums(parts, rows["group"])
    resampled_table = resampled_sums(sums, repeats=measures.repeats if len(sums) > 1 else 0, seed=seed)
    overall, resampled = (
        kappa(*np.moveaxis(table_sums.reshape(-1, 4, len(names)), 1, 0))
        for table_sums in (sums.sum(0), resampled_table)
    )
    return overall[0], resampled


def _area(runs: str) -> int:
    return sum(map(int, runs.split()[1::2]))


def _joined(one: str, other: str, shape: tuple[int, int]) -> str:
    """Run lengths of the pixels in either mask."""
    if not (one and other):
        return one or other
    return encode_rle(decode_rle(one, shape, order="C") | decode_rle(other, shape, order="C"), order="C")
