"""Two runs on the same images: paired differences, how sure they are, and a verdict in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.manifest.table import class_names
from seg_pipeline.segmentation.metrics.confidence_intervals import FEW_GROUPS, group_sums, interval, resampled_sums

MANIFEST, IMAGE_SCORES = "05_model_input/manifest.parquet", "08_reporting/image_scores.parquet"
"""Where a run keeps the two tables, below its `data_root`; conf/base/catalog.yml says the same."""

ALL = "all classes"
COLUMNS = ("image_id", "group", "class", "dice", "other_dice", "difference")
REPEATS = 2000


def read_run(data_root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Manifest and image scores of a run.

    Raises:
        ValueError: the folder has none.
    """
    files = [data_root / name for name in (MANIFEST, IMAGE_SCORES)]
    if missing := [str(file) for file in files if not file.exists()]:
        raise ValueError(
            f"no run to compare with: there is no {' and no '.join(missing)}; give the data_root of a run whose "
            "evaluation is finished (`reporting.compare_with`; null compares with none)"
        )
    manifest, scores = (pd.read_parquet(file) for file in files)
    return manifest, scores


def no_pairs() -> pd.DataFrame:
    """The table of a run that is compared with none."""
    return pd.DataFrame({name: pd.Series(dtype=object if name in COLUMNS[:3] else float) for name in COLUMNS})


def pair_scores(
    manifest: pd.DataFrame, scores: pd.DataFrame, other_manifest: pd.DataFrame, other_scores: pd.DataFrame
) -> pd.DataFrame:
    """Dice of both runs for each image and class, and the first's less the other's.

    Args:
        manifest, other_manifest: of the two runs; all of their scored images must be the same.
        scores, other_scores: a row an image and class, as evaluation writes them.

    Returns:
        Columns ``COLUMNS``. Where truth does not show the class, a run that rightly predicts nothing has no Dice:
        beside a run that predicts something there (Dice 0) it counts as 1, so that a false find costs.
        Rows where both are right to be silent are missing.

    Raises:
        ValueError: the runs are not of the same classes, images, pixels or truth.
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
    """Rows of the scored images with what their truth is made of, by image."""
    masks = [f"mask_{name}" for name in class_names(manifest)]
    rows = manifest[manifest["image_id"].isin(scores["image_id"])].set_index("image_id")
    return rows[["content_hash", "ignore", *masks]].sort_index()


def _check_same_truth(mine: pd.DataFrame, other: pd.DataFrame) -> None:
    found, expected = (class_names(rows) for rows in (other, mine))
    if found != expected:
        raise ValueError(
            f"the other run is of the classes {found}, this one of {expected}; compare runs on one data set"
        )
    if lost := sorted(set(mine.index) ^ set(other.index)):
        raise ValueError(
            f"the runs scored different images: {len(lost)} were scored by one of them only ({', '.join(lost[:3])}); "
            "compare runs with the same split: the same data, seed and `data_processing.split`"
        )
    changed = mine.index[(mine != other).any(axis=1)]
    if len(changed):
        raise ValueError(
            f"pixels or truth differ between the runs in {len(changed)} of {len(mine)} images "
            f"({', '.join(changed[:3])}); evaluate both on the same data"
        )


def summarise(pairs: pd.DataFrame, *, seed: int, confidence: float = 0.95) -> pd.DataFrame:
    """A row for all classes together, then one a class in the table's order.

    Args:
        pairs: as ``pair_scores`` gives them.

    Returns:
        Columns class, num_images, num_groups, dice, other_dice, difference, low, high, better, worse, equal (pairs)
        and verdict. Scores are means over images; for all classes the mean of the classes' means. ``low`` and
        ``high`` hold the difference with that confidence, over resampled groups (``intervals``); NaN for one group.
    """
    classes = list(dict.fromkeys(pairs["class"]))
    drawn = _resampled_differences(pairs, classes, seed)
    rows = []
    for name, draws in [(ALL, np.nanmean(drawn, axis=1)), *zip(classes, drawn.T, strict=True)]:
        part = pairs if name == ALL else pairs[pairs["class"] == name]
        low, high = interval(draws, confidence=confidence) if part["group"].nunique() > 1 else (np.nan, np.nan)
        rows.append({"class": name, **_means(part), "low": low, "high": high, **_counts(part)})
    return pd.DataFrame(rows).assign(verdict=lambda table: [_verdict(row) for row in table.to_dict("records")])


def _resampled_differences(pairs: pd.DataFrame, classes: list[str], seed: int) -> np.ndarray:
    """Mean difference of each class, (REPEATS, C), over drawn groups; NaN where none of them shows it."""
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
    """The verdict on all classes in a sentence."""
    row = summary.iloc[0]
    change = f"Dice {row['dice']:.3f} against {row['other_dice']:.3f}, difference {row['difference']:+.3f}"
    if np.isnan(row["low"]):
        return f"Which run is better cannot be told from images of one group: {change}."
    words = {
        "better": "This run is better",
        "worse": "This run is worse",
        "no difference shown": "No difference is shown: the interval holds 0",
    }
    sure = f"95 % interval {row['low']:+.3f} to {row['high']:+.3f}"
    few = " Over so few groups an interval is rough." if row["num_groups"] < FEW_GROUPS else ""
    return f"{words[row['verdict']]}: {change} ({sure}, {row['num_images']} images of {row['num_groups']} groups).{few}"
