"""Assign train, validation and test splits and folds: at random, by time, or from a table.

Random splits keep groups whole and resemble the whole data set. Of many random assignments, the one is kept whose
splits lack no class that they could have and deviate least from the wanted shares: of images, of images with each class
and with none, and of the area of each class. scikit-learn's StratifiedGroupKFold balances one label per sample only,
which is why this is written here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.manifest.findings import Finding, findings_table
from seg_pipeline.segmentation.manifest.table import SPLITS, class_names

Method = Literal["draw", "time", "table"]

CANDIDATES = 1000
MOST_DEALT = 20_000_000
"""Upper limit of units times candidates: a million single images need few candidates, as all assignments are alike."""


def assign_splits(
    manifest: pd.DataFrame,
    *,
    shares: dict[str, float],
    grouped: bool,
    stratified: bool,
    seed: int,
    method: Method = "draw",
    folds: int = 5,
    given: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Split and fold of each image: columns image_id, group, split, fold.

    ``fold`` (int8) is the fold in which a train or val image validates, 0 to ``folds`` - 1, and -1 in the test
    split. With fewer groups there are fewer folds. Folds are assigned as the splits are.

    Args:
        manifest: with group, series, frame, mask and area columns.
        shares: share of the images per split, adding up to 1; a share of 0 leaves its split out.
        grouped: keep groups whole (else images are assigned one by one).
        stratified: keep the best of ``CANDIDATES`` random assignments (else the first).
        seed: the same seed and manifest give the same splits.
        method: "draw", "time" (each series is cut in its order: train, val, test) or "table".
        given: for "table": image_id, split.

    Raises:
        ValueError: there are fewer groups than splits with a share, or the given table does not fit.
    """
    unit = (manifest["group"] if grouped else manifest["image_id"]).to_numpy()
    rng = np.random.default_rng(seed)
    if method == "table":
        split = _given_splits(manifest, given)
    elif method == "time":
        split = _by_time(manifest, shares)
    else:
        split = _drawn_splits(_quantities(manifest), unit, shares, stratified, rng)
    fold = np.full(len(manifest), -1, dtype=np.int8)
    rest = split != "test"
    if method == "time":
        fold[rest] = np.floor(_position(manifest[rest]) * folds)
    elif rest.any():
        fold[rest] = _drawn_folds(_quantities(manifest[rest]), unit[rest], folds, stratified, rng)
    named = manifest[["image_id", "group"]]
    return named.assign(split=pd.Series(split, index=manifest.index, dtype="str"), fold=fold)


def _drawn_splits(
    quantities: pd.DataFrame, unit: np.ndarray, shares: dict[str, float], stratified: bool, rng: np.random.Generator
) -> np.ndarray:
    names = [name for name in SPLITS if shares[name] > 0]
    units = np.unique(unit)
    if len(units) < len(names):
        raise ValueError(
            f"{len(units)} groups ({', '.join(units[:5])}) cannot fill the splits {', '.join(names)} without "
            "sharing one; give more groups, set a share to 0, or split without groups (`split.grouped: false`)"
        )
    wanted = np.array([shares[name] for name in names])
    return np.array(names)[_draw(quantities, unit, wanted, stratified, rng)]


def _drawn_folds(
    quantities: pd.DataFrame, unit: np.ndarray, folds: int, stratified: bool, rng: np.random.Generator
) -> np.ndarray:
    number = min(folds, len(np.unique(unit)))
    return _draw(quantities, unit, np.full(number, 1 / number), stratified, rng)


def _draw(
    quantities: pd.DataFrame, unit: np.ndarray, wanted: np.ndarray, stratified: bool, rng: np.random.Generator
) -> np.ndarray:
    """Index into ``wanted`` per row; rows of one unit stay together."""
    sums = quantities.groupby(unit).sum()  # sorted by unit: no trace of row order
    totals, sizes = sums.to_numpy(), sums["images"].to_numpy()
    number = int(np.clip(MOST_DEALT // len(totals), 20, CANDIDATES)) if stratified else 1
    candidates = (_deal(sizes, wanted, rng) for _ in range(number))
    best = min(candidates, key=lambda part: _imbalance(totals, part, wanted))
    return best[sums.index.get_indexer(pd.Index(unit))]


def _position(manifest: pd.DataFrame) -> np.ndarray:
    """Position of each image in its series, in [0, 1)."""
    ordered = manifest.sort_values(["series", "frame", "image_id"]).groupby("series", sort=False)
    place = (ordered.cumcount() + 0.5) / ordered["series"].transform("size")
    return place.reindex(manifest.index).to_numpy()


def _by_time(manifest: pd.DataFrame, shares: dict[str, float]) -> np.ndarray:
    ends = np.cumsum([shares[name] for name in SPLITS])
    return np.array(SPLITS)[np.minimum(np.searchsorted(ends, _position(manifest)), len(SPLITS) - 1)]


def _given_splits(manifest: pd.DataFrame, given: pd.DataFrame | None) -> np.ndarray:
    if given is None or not {"image_id", "split"} <= set(given):
        found = "there is none" if given is None else f"it has the columns {list(given)}"
        raise ValueError(
            f"`split.method: table` needs the table `predefined_splits` with the columns image_id and split, but "
            f"{found}; put it at the path of its catalog entry"
        )
    said = given[["image_id", "split"]].astype("str").drop_duplicates()
    if unknown := sorted(set(said["split"]) - set(SPLITS)):
        raise ValueError(f"`predefined_splits` holds the splits {unknown}, expected {', '.join(SPLITS)}")
    if twice := said.loc[said.duplicated("image_id"), "image_id"].tolist():
        raise ValueError(f"`predefined_splits` puts {len(twice)} images into two splits, such as {twice[0]}")
    split = manifest["image_id"].map(said.set_index("image_id")["split"])
    if split.isna().any():
        missing = manifest.loc[split.isna(), "image_id"]
        raise ValueError(
            f"`predefined_splits` lacks {len(missing)} of the {len(manifest)} images, such as {missing.iloc[0]}; "
            "add them, or drop them by `excluded_images`"
        )
    return split.to_numpy(dtype=object)


def _quantities(manifest: pd.DataFrame) -> pd.DataFrame:
    """What each image adds to its split: one column per quantity to balance."""
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
    """Sum over splits and quantities of |actual share - wanted share|, plus 1 per quantity that a split lacks."""
    got = (split == np.arange(len(wanted))[:, None]) @ totals
    whole = totals.sum(axis=0)
    lacking = ((got == 0) & (whole > 0)).sum()
    return float(np.abs(got / np.maximum(whole, 1) - wanted[:, None]).sum() + lacking)


def check_leaks(
    manifest: pd.DataFrame, splits: pd.DataFrame, *, allowed: bool, groups_allowed: bool = False
) -> pd.DataFrame:
    """A finding per group, or set of images with equal pixels, that is in two splits or folds.

    Blank images, which are all equal, do not count.

    Args:
        allowed: report leaks as findings instead of stopping.
        groups_allowed: the same for groups only (if series were split by time).

    Raises:
        ValueError: there are leaks that are not allowed.
    """
    columns = ["image_id", "group", "content_hash", "intensity_min", "intensity_max"]
    table = manifest[columns].merge(splits[["image_id", "split", "fold"]], on="image_id", validate="one_to_one")
    seen = table[table["intensity_min"] < table["intensity_max"]]
    of_groups, of_content = (
        [*_in_two(rows, column, "split"), *_in_two(rows[rows["fold"] >= 0], column, "fold")]
        for rows, column in ((table, "group"), (seen, "content_hash"))
    )
    forbidden = [] if allowed else of_content if groups_allowed else of_groups + of_content
    if forbidden:
        more = f"; and {len(forbidden) - 3} more" if forbidden[3:] else ""
        raise ValueError(
            f"the splits leak: {'; '.join(forbidden[:3])}{more}. Split by group (`split.grouped: true`), give equal "
            "images one group or drop all but one of them (`excluded_images`), or set `split.allow_leakage: true`"
        )
    return findings_table(Finding("leak_between_splits", leak, "flagged") for leak in of_groups + of_content)


def _in_two(table: pd.DataFrame, column: str, place: str) -> list[str]:
    """Values of a column that are in two splits or folds, as text."""
    pairs = table[[column, place]].drop_duplicates()
    several = table[table[column].isin(pairs.loc[pairs.duplicated(column), column])]
    return [
        f"{column} {str(value)[:16]} is in {' and '.join(_placed(place, rows[place]))} "
        f"({', '.join(rows['image_id'].head(3))})"
        for value, rows in several.groupby(column)
    ]


def _placed(place: str, values: pd.Series) -> list[str]:
    return [str(value) if place == "split" else f"fold {value}" for value in sorted(values.unique())]


def missing_classes(manifest: pd.DataFrame) -> pd.DataFrame:
    """A finding per class and split of the manifest that has no pixel of it."""
    found = []
    names = class_names(manifest)
    for split, rows in manifest[["split", *(f"area_{name}" for name in names)]].groupby("split"):
        for name in names:
            if not rows[f"area_{name}"].any():
                reason = f"none of the {len(rows)} {split} images shows {name}; its scores there are undefined"
                found.append(Finding("class_missing_from_split", reason, "flagged"))
    return findings_table(found)


def fewer_folds(splits: pd.DataFrame, folds: int) -> pd.DataFrame:
    """A finding if fewer folds were made than requested."""
    made = int(splits["fold"].max()) + 1
    if made >= folds:
        return findings_table([])
    reason = f"{made} folds instead of {folds}: train and val have too few groups"
    return findings_table([Finding("fewer_folds", reason, "flagged")])


def split_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """Images, groups and shares per split, and the share of its images that show each class."""
    names = class_names(manifest)
    table = manifest[["split", "group", *(f"area_{name}" for name in names)]]
    rows = []
    for split in SPLITS:
        part = table[table["split"] == split]
        shown = {name: float((part[f"area_{name}"] > 0).mean()) if len(part) else 0.0 for name in names}
        share = len(part) / len(manifest)
        rows.append({"split": split, "images": len(part), "groups": part["group"].nunique(), "share": share, **shown})
    return pd.DataFrame(rows)
