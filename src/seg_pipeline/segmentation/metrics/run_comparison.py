"""Comparison of two runs on the same images: paired differences, their intervals, and a verdict as text."""

from pathlib import Path

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.manifest.table import class_names
from seg_pipeline.segmentation.metrics.confidence_intervals import FEW_GROUPS, group_sums, interval, resampled_sums

MANIFEST, IMAGE_SCORES = "05_model_input/manifest.parquet", "08_reporting/image_scores.parquet"
PREDICTIONS = "07_model_output/predictions.parquet"
"""Paths of the tables below a run's `data_root`, as in conf/base/catalog.yml."""

ALL = "all classes"
COLUMNS = ("image_id", "group", "class", "dice", "other_dice", "difference")
REPEATS = 2000


def read_run(data_root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Manifest and image scores of a run.

    Raises:
        ValueError: the folder does not have both.
    """
    files = [data_root / name for name in (MANIFEST, IMAGE_SCORES)]
    if missing := [str(file) for file in files if not file.exists()]:
        raise ValueError(
            f"no run to compare with: there is no {' and no '.join(missing)}; set `reporting.compare_with` to the "
            "data_root of a run whose evaluation is finished, or to null"
        )
    manifest, scores = (pd.read_parquet(file) for file in files)
    return manifest, scores


def read_predictions(data_root: Path, compared: pd.DataFrame) -> pd.DataFrame | None:
    """Predicted masks of a run; None if the file is gone or lacks an image of ``compared``."""
    file = data_root / PREDICTIONS
    predictions = pd.read_parquet(file) if file.exists() else None
    return None if predictions is None or not set(compared["image_id"]) <= set(predictions["image_id"]) else predictions


def no_pairs() -> pd.DataFrame:
    """The empty table, for a run that is not compared with another."""
    return pd.DataFrame({name: pd.Series(dtype=object if name in COLUMNS[:3] else float) for name in COLUMNS})


def pair_scores(
    manifest: pd.DataFrame, scores: pd.DataFrame, other_manifest: pd.DataFrame, other_scores: pd.DataFrame
) -> pd.DataFrame:
    """Dice of both runs per image and class, and the first minus the other.

    Args:
        manifest, other_manifest: manifests of the two runs; the scored images must be the same.
        scores, other_scores: one row per image and class, as evaluation writes them.

    Returns:
        Columns ``COLUMNS``. If the ground truth lacks the class, a run that rightly predicts nothing has no Dice; it
        counts as 1 if the other run has a false positive there (Dice 0), so that false positives cost. If neither
        run predicts the class, there is no row.

    Raises:
        ValueError: the runs differ in classes, images, pixels or ground truth.
    """
    _check_same_truth(_scored(manifest, scores), _scored(other_manifest, other_scores))
    keys = ["image_id", "class"]
    both = scores[[*keys, "group", "dice"]].merge(other_scores[[*keys, "dice"]], on=keys, suffixes=("", "_other"))
    both = both.rename(columns={"dice_other": "other_dice"})
    known = both[both["dice"].notna() | both["other_dice"].notna()].fillna({"dice": 1.0, "other_dice": 1.0})
    ordered = known.sort_values("class", key=lambda names: names.map(class_names(manifest).index), kind="stable")
    paired = ordered.assign(difference=ordered["dice"] - ordered["other_dice"])
    return paired[list(COLUMNS)].reset_index(drop=True)


def _scored(manifest: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Content hash and ground truth of the scored images, indexed by image id."""
    masks = [f"mask_{name}" for name in class_names(manifest)]
    rows = manifest[manifest["image_id"].isin(scores["image_id"])].set_index("image_id")
    return rows[["content_hash", "ignore", *masks]].sort_index()


def _check_same_truth(this: pd.DataFrame, other: pd.DataFrame) -> None:
    found, expected = (class_names(rows) for rows in (other, this))
    if found != expected:
        raise ValueError(
            f"the other run has the classes {found}, this one {expected}; compare runs on the same data set"
        )
    if extra := sorted(set(this.index) ^ set(other.index)):
        raise ValueError(
            f"the runs scored different images: {len(extra)} were scored by only one ({', '.join(extra[:3])}); "
            "compare runs with the same split: the same data, seed and `data_processing.split`"
        )
    changed = this.index[(this != other).any(axis=1)]
    if len(changed):
        raise ValueError(
            f"pixels or ground truth differ between the runs in {len(changed)} of {len(this)} images "
            f"({', '.join(changed[:3])}); evaluate both on the same data"
        )


def summarise(pairs: pd.DataFrame, *, seed: int, confidence: float = 0.95) -> pd.DataFrame:
    """One row for all classes, then one per class in the table's order.

    Args:
        pairs: result of ``pair_scores``.

    Returns:
        Columns class, num_images, num_groups, dice, other_dice, difference, low, high, better, worse, equal (pairs)
        and verdict. Scores are means over images, and for all classes the mean of the class means. ``low``
        and ``high`` are the confidence interval of the difference over resampled groups; NaN for a single group.
    """
    classes = list(dict.fromkeys(pairs["class"]))
    resampled = _resampled_differences(pairs, classes, seed)
    rows = []
    for name, draws in [(ALL, np.nanmean(resampled, axis=1)), *zip(classes, resampled.T, strict=True)]:
        part = pairs if name == ALL else pairs[pairs["class"] == name]
        low, high = interval(draws, confidence=confidence) if part["group"].nunique() > 1 else (np.nan, np.nan)
        rows.append({"class": name, **_means(part), "low": low, "high": high, **_counts(part)})
    return pd.DataFrame(rows).assign(verdict=lambda table: [_verdict(row) for row in table.to_dict("records")])


def _resampled_differences(pairs: pd.DataFrame, classes: list[str], seed: int) -> np.ndarray:
    """Mean difference per class and resample (REPEATS, C); NaN if no drawn group has the class."""
    table = pairs.pivot(index=["group", "image_id"], columns="class", values="difference")[classes]
    known = table.notna().to_numpy()
    cells = np.concatenate([table.fillna(0).to_numpy(), known], axis=1)
    sums = resampled_sums(
        group_sums(cells, table.index.get_level_values("group").to_numpy()), repeats=REPEATS, seed=seed
    )
    total, count = sums[:, : len(classes)], sums[:, len(classes) :]
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _means(part: pd.DataFrame) -> dict[str, float]:
    by_class = part.groupby("class")[["dice", "other_dice", "difference"]].mean().mean()
    sizes = {"num_images": part["image_id"].nunique(), "num_groups": part["group"].nunique()}
    return sizes | {str(name): float(value) for name, value in by_class.items()}


def _counts(part: pd.DataFrame) -> dict[str, int]:
    difference = part["difference"]
    return {
        "better": int((difference > 0).sum()),
        "worse": int((difference < 0).sum()),
        "equal": int((difference == 0).sum()),
    }


def _verdict(row: dict) -> str:
    if np.isnan(row["low"]):
        return "cannot be told from images of one group"
    if row["low"] > 0:
        return "better"
    return "worse" if row["high"] < 0 else "no difference shown"


def describe(summary: pd.DataFrame) -> str:
    """The verdict on all classes in one sentence."""
    row = summary.iloc[0]
    change = f"Dice {row['dice']:.3f} against {row['other_dice']:.3f}, difference {row['difference']:+.3f}"
    if np.isnan(row["low"]):
        return f"Images of one group do not show which run is better: {change}."
    words = {
        "better": "This run is better",
        "worse": "This run is worse",
        "no difference shown": "No significant difference: the interval contains 0",
    }
    bounds = f"95 % interval {row['low']:+.3f} to {row['high']:+.3f}"
    few = " With so few groups, the interval is rough." if row["num_groups"] < FEW_GROUPS else ""
    return (
        f"{words[row['verdict']]}: {change} ({bounds}, {row['num_images']} images of {row['num_groups']} groups).{few}"
    )
