"""Train, validation and test: whole groups only, each split as like the whole as it can be.

Of many random assignments the one is kept whose splits lack no class that they could have, and differ
least from the wanted shares: in images, in images with each class and with none, and in area of each class.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.manifest import SPLITS, class_names
from seg_pipeline.segmentation.quality import Finding, findings_table

CANDIDATES = 1000


def assign_splits(
    manifest: pd.DataFrame, *, shares: dict[str, float], grouped: bool, stratified: bool, seed: int
) -> pd.DataFrame:
    """Split of each image: columns image_id, group, split.

    Args:
        manifest: with group, mask and area columns.
        shares: share of the images by split name, adding up to 1.
        grouped: groups stay whole (else every image is on its own, whatever its neighbours).
        stratified: the best of ``CANDIDATES`` random assignments (else the first).
        seed: the same seed and manifest give the same splits.

    Raises:
        ValueError: there are fewer groups than splits with a share.
    """
    unit = manifest["group"] if grouped else manifest["image_id"]
    totals = _quantities(manifest).groupby(unit.to_numpy()).sum()  # sorted by unit: no trace of row order
    names = [name for name in SPLITS if shares[name] > 0]
    wanted = np.array([shares[name] for name in names])
    if len(totals) < len(names):
        raise ValueError(
            f"{len(totals)} groups ({', '.join(totals.index[:5])}) cannot fill the splits {', '.join(names)} without "
            "sharing one; give more groups, set a share to 0, or split without groups (`split.grouped: false`)"
        )
    rng = np.random.default_rng(seed)
    candidates = (_deal(totals["images"].to_numpy(), wanted, rng) for _ in range(CANDIDATES if stratified else 1))
    split_of_unit = min(candidates, key=lambda split: _imbalance(totals.to_numpy(), split, wanted))
    split = pd.Series(np.array(names)[split_of_unit], index=totals.index)
    return pd.DataFrame(
        {"image_id": manifest["image_id"], "group": manifest["group"], "split": unit.map(split).astype("str")}
    )


def _quantities(manifest: pd.DataFrame) -> pd.DataFrame:
    """What each image adds to its split; a column a quantity to balance."""
    areas = manifest[[f"area_{name}" for name in class_names(manifest)]]
    present = (areas > 0).add_prefix("has_")
    return pd.concat([present, areas], axis=1).assign(images=1, empty=~present.any(axis=1)).astype(float)


def _deal(sizes: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Split index of each unit: units in random order, each to the split its middle falls into."""
    order = rng.permutation(len(sizes))
    ends = np.cumsum(sizes[order])
    middles = (ends - sizes[order] / 2) / ends[-1]
    split = np.empty(len(sizes), dtype=np.int64)
    split[order] = np.minimum(np.searchsorted(np.cumsum(wanted), middles), len(wanted) - 1)
    return split


def _imbalance(totals: np.ndarray, split: np.ndarray, wanted: np.ndarray) -> float:
    """Sum over splits and quantities of |share got - share wanted|, and 1 for each that a split lacks."""
    got = np.stack([totals[split == index].sum(axis=0) for index in range(len(wanted))])
    whole = totals.sum(axis=0)
    lacking = ((got == 0) & (whole > 0)).sum()
    return float(np.abs(got / np.maximum(whole, 1) - wanted[:, None]).sum() + lacking)


def check_leaks(manifest: pd.DataFrame, splits: pd.DataFrame, *, allowed: bool) -> pd.DataFrame:
    """A finding for each thing that lies in two splits: a group, or images with equal pixels (blank ones apart).

    Raises:
        ValueError: there are such, and they are not ``allowed``.
    """
    table = manifest.merge(splits[["image_id", "split"]], on="image_id", validate="one_to_one")
    seen = table[table["intensity_min"] < table["intensity_max"]]
    leaks = [*_in_two_splits(table, "group"), *_in_two_splits(seen, "content_hash")]
    if leaks and not allowed:
        raise ValueError(
            f"the splits leak: {'; '.join(leaks[:3])}{f'; and {len(leaks) - 3} more' if leaks[3:] else ''}. Split by "
            "group (`split.grouped: true`) and give equal images one group, or set `split.allow_leakage: true`"
        )
    return findings_table(Finding("leak_between_splits", leak, "flagged") for leak in leaks)


def _in_two_splits(table: pd.DataFrame, column: str) -> list[str]:
    found = table.groupby(column)["split"].unique()
    return [
        f"{column} {str(value)[:16]} is in {' and '.join(sorted(splits))} "
        f"({', '.join(table.loc[table[column] == value, 'image_id'].head(3))})"
        for value, splits in found[found.map(len) > 1].items()
    ]


def missing_classes(manifest: pd.DataFrame) -> pd.DataFrame:
    """A finding for each class that a split of the manifest has no pixel of."""
    found = []
    for split, rows in manifest.groupby("split"):
        for name in class_names(manifest):
            if not rows[f"area_{name}"].any():
                reason = f"none of the {len(rows)} {split} images shows {name}; its scores there are undefined"
                found.append(Finding("class_missing_from_split", reason, "flagged"))
    return findings_table(found)
