"""Assign train, validation and test splits and folds: at random, by time, or as a table or the file names say.

Random splits keep groups whole and resemble the whole data set. Of many random assignments, the one is kept whose
splits lack no class that they could have and deviate least from the wanted shares: of images, of images with each class
and with none, and of the area of each class. scikit-learn's StratifiedGroupKFold balances one label per sample only,
which is why this is written here. No split or fold stays empty if there are enough groups.
"""

from typing import Literal

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.manifest.table import SPLITS, class_names, natural_key
from seg_pipeline.segmentation.manifest.table_forms import as_text

Method = Literal["draw", "time", "table", "leave_one_group_out"]

CANDIDATES = 1000
MOST_DEALT = 20_000_000
"""Upper limit of units times candidates: a million single images need few candidates, as all assignments are alike."""
IMAGES = -2
"""Column of ``_totals`` with the number of images."""
MOST_FOLDS = 128
"""Folds are numbered with int8."""
SPLIT_NAMES = {**dict(zip(SPLITS, SPLITS, strict=True)), "training": "train", "testing": "test"}
SPLIT_NAMES |= dict.fromkeys(("valid", "validation"), "val")
"""What tables and folder names call the splits."""


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
        manifest: with group, series, frame, mask and area columns. Columns split and fold, from the file names, are
            kept unless ``given`` overrides them.
        shares: share of the images per split, adding up to 1; a share of 0 leaves its split out.
        grouped: keep groups whole (else images are assigned one by one).
        stratified: keep the best of ``CANDIDATES`` random assignments (else the first).
        seed: the same seed and manifest give the same splits.
        method: "draw", "time" (each series is cut in its order: train, val, test), "table", or "leave_one_group_out"
            (as "draw", with one fold per group of train and val).
        given: for "table": image_id, split.

    Raises:
        ValueError: there are fewer groups than splits with a share, or the given table or names do not fit.
    """
    unit = manifest["group"] if grouped or method == "leave_one_group_out" else manifest["image_id"]
    rng = np.random.default_rng(seed)
    if method == "table":
        split = _splits_of_table(manifest, given, shares)
    elif "split" in manifest:
        split = _checked(manifest["split"], manifest["image_id"], "the group `split` of the file names", shares)
    else:
        names = [name for name in SPLITS if shares[name] > 0]
        wanted = np.array([shares[name] for name in names])
        one_by_one = method == "time" or not grouped
        _refuse_too_few(manifest["image_id"] if one_by_one else unit, names, grouped=not one_by_one)
        parts = _by_time(manifest, wanted) if method == "time" else _draw(manifest, unit, wanted, stratified, rng)
        split = np.array(names)[parts]
    fold = np.full(len(manifest), -1, dtype=np.int8)
    rest = split != "test"
    if rest.any():
        fold[rest] = _folds(manifest[rest], unit[rest], folds, method, stratified, rng)
    named = manifest[["image_id", "group"]]
    return named.assign(split=pd.Series(split, index=manifest.index, dtype="str"), fold=fold)


def _refuse_too_few(unit: pd.Series, names: list[str], *, grouped: bool) -> None:
    if unit.nunique() >= len(names):
        return
    units = sorted(unit.unique())
    choices = "use fewer splits (such as `split.shares.test: 0`), or cross-validate (`val: 0` and `training.folds`)"
    if grouped:
        choices += (
            ", or split single images (`split.grouped: false` and `allow_leakage: true`; the scores are then too good, "
            "because images of one group are on both sides)"
        )
    raise ValueError(
        f"{len(units)} {'groups' if grouped else 'images'} ({', '.join(map(str, units[:5]))}) cannot fill the splits "
        f"{', '.join(names)}, as each needs one. Add data, {choices}"
    )


def _folds(
    manifest: pd.DataFrame, unit: pd.Series, folds: int, method: Method, stratified: bool, rng: np.random.Generator
) -> np.ndarray:
    if "fold" in manifest:
        return _named_folds(manifest)
    if method == "leave_one_group_out":
        place, groups = pd.factorize(unit, sort=True)
        if not 2 <= len(groups) <= MOST_FOLDS:
            raise ValueError(
                f"`split.method: leave_one_group_out` needs 2 to {MOST_FOLDS} groups in train and val, found "
                f"{len(groups)}; use `draw` with `split.folds`"
            )
        return place
    number = min(folds, len(manifest) if method == "time" else unit.nunique())
    wanted = np.full(number, 1 / number)
    return _by_time(manifest, wanted) if method == "time" else _draw(manifest, unit, wanted, stratified, rng)


def _named_folds(manifest: pd.DataFrame) -> np.ndarray:
    """Folds of the file names, numbered from 0 in their natural order."""
    if (lacking := manifest["fold"].isna()).any():
        raise ValueError(
            f"the group `fold` of the file names gives {lacking.sum()} images no fold, such as "
            f"{manifest.loc[lacking, 'image_id'].iloc[0]}; fix `pattern` of `image_files`, or rename the group"
        )
    names = sorted(manifest["fold"].astype("str").unique(), key=natural_key)
    if len(names) > MOST_FOLDS:
        raise ValueError(f"the group `fold` of the file names gives {len(names)} folds, expected up to {MOST_FOLDS}")
    return pd.Index(names).get_indexer(pd.Index(manifest["fold"].astype("str")))


def _draw(
    manifest: pd.DataFrame, unit: pd.Series, wanted: np.ndarray, stratified: bool, rng: np.random.Generator
) -> np.ndarray:
    """Index into ``wanted`` per row; rows of one unit stay together."""
    place, units = pd.factorize(unit, sort=True)  # sorted: no trace of row order
    totals = _totals(manifest, place, len(units))
    number = int(np.clip(MOST_DEALT // len(totals), 20, CANDIDATES)) if stratified else 1
    candidates = (_deal(totals[:, IMAGES], wanted, rng) for _ in range(number))
    return min(candidates, key=lambda part: _imbalance(totals, part, wanted))[place]


def _by_time(manifest: pd.DataFrame, wanted: np.ndarray) -> np.ndarray:
    """Index into ``wanted`` per row, ascending in each series.

    All images are cut at once, ordered by their position in their series, so that even series of one or two images
    add up to the wanted shares.
    """
    ordered = manifest[["image_id", "series", "frame"]].reset_index(drop=True)
    ordered = ordered.sort_values(["series", "frame", "image_id"])
    series = ordered.groupby("series", sort=False)["series"]
    position = (series.cumcount() + 0.5) / series.transform("size")
    rows = position.index[np.argsort(position, kind="stable")]
    part = np.empty(len(rows), dtype=np.int64)
    part[rows] = _cut(np.ones(len(rows)), wanted)
    return part


def _splits_of_table(manifest: pd.DataFrame, given: pd.DataFrame | None, shares: dict[str, float]) -> np.ndarray:
    if given is None or not {"image_id", "split"} <= set(given):
        found = "there is none" if given is None else f"it has the columns {list(given)}"
        raise ValueError(
            f"`split.method: table` needs the table `predefined_splits` with the columns image_id and split, but "
            f"{found}; put it at the path of its catalog entry"
        )
    said = given[["image_id", "split"]].apply(as_text).drop_duplicates()
    if twice := said.loc[said.duplicated("image_id"), "image_id"].tolist():
        raise ValueError(f"`predefined_splits` puts {len(twice)} images into two splits, such as {twice[0]}")
    split = manifest["image_id"].map(said.set_index("image_id")["split"])
    return _checked(split, manifest["image_id"], "`predefined_splits`", shares)


def _checked(given: pd.Series, image_ids: pd.Series, source: str, shares: dict[str, float]) -> np.ndarray:
    """Given splits under our names.

    Raises:
        ValueError: an image has no split, a name is unknown, or no image is left to train or to validate on.
    """
    if given.isna().any():
        missing = image_ids[given.isna()]
        raise ValueError(
            f"{source} lacks {len(missing)} of the {len(given)} images, such as {missing.iloc[0]}; "
            "add them, or drop them by `excluded_images`"
        )
    split = given.map(lambda name: SPLIT_NAMES.get(name.casefold()))
    if unknown := sorted(set(given[split.isna()])):
        raise ValueError(f"{source} holds the splits {unknown}, expected {', '.join(SPLITS)}")
    if empty := [name for name in SPLITS[:2] if shares[name] > 0 and name not in set(split)]:
        raise ValueError(
            f"{source} puts no image into {' or '.join(empty)}; add some, or cross-validate (`split.shares.val: 0` and "
            "`training.folds`), or let the splits be drawn (`split.method: draw`, and no pattern group named `split`)"
        )
    return split.to_numpy(dtype=object)


def _totals(manifest: pd.DataFrame, place: np.ndarray, number: int) -> np.ndarray:
    """What each of ``number`` units adds to its split, float64 (units, quantities): images that show each class, its
    area, images (column ``IMAGES``), and images without a mask.

    Made one quantity at a time, because the table of units is small and a table of all images is not.
    """
    areas = [manifest[f"area_{name}"].to_numpy() for name in class_names(manifest)]
    empty = np.ones(len(manifest), dtype=bool)
    for area in areas:
        empty &= ~(area > 0)
    columns = (*(area > 0 for area in areas), *areas, None, empty)
    return np.stack([np.bincount(place, column, number) for column in columns], axis=1).astype(float)


def _deal(sizes: np.ndarray, wanted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Split index of each unit: the units are put in random order and cut."""
    order = rng.permutation(len(sizes))
    split = np.empty(len(sizes), dtype=np.int64)
    split[order] = _cut(sizes[order], wanted)
    return split


def _cut(sizes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Split index of each of the ordered units, ascending: the split its middle falls into, and none stays empty."""
    ends = np.cumsum(sizes)
    middles = (ends - sizes / 2) / ends[-1]
    before = np.arange(1, len(wanted))  # splits before each cut, which need as many units
    cuts = np.searchsorted(middles, np.cumsum(wanted)[:-1], side="right")
    cuts = np.clip(np.maximum.accumulate(cuts - before), 0, len(sizes) - len(wanted)) + before
    return np.searchsorted(cuts, np.arange(len(sizes)), side="right")


def _imbalance(totals: np.ndarray, split: np.ndarray, wanted: np.ndarray) -> float:
    """Sum over splits and quantities of |actual share - wanted share|, plus 1 per quantity that a split lacks."""
    got = (split == np.arange(len(wanted))[:, None]) @ totals
    whole = totals.sum(axis=0)
    lacking = ((got == 0) & (whole > 0)).sum()
    return float(np.abs(got / np.maximum(whole, 1) - wanted[:, None]).sum() + lacking)
