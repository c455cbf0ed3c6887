"""Tables that describe a data set: the data of the figures, and the rows of the images to show.

All are computed from the manifest, without reading pixels. The image table has one row per image: the manifest
without masks, paths and hashes, plus ``day``.
"""

import difflib
import itertools
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from seg_pipeline.segmentation.manifest.table import SPLITS, class_names, spread
from seg_pipeline.segmentation.plotting import style

MAX_PARTS = 20
"""Maximum number of parts of a series, which make long and short series comparable."""

MIN_IMAGES = 5
"""Distributions of fewer images are not compared."""

EMPTY_WEIGHT = 4
"""Weight of an image without a mask in a stratified sample; with a larger weight, fewer are drawn."""


def image_table(manifest: pd.DataFrame, *, day_pattern: str | None) -> pd.DataFrame:
    """The manifest without masks, paths and hashes, plus ``day`` (float, NaN if the series' name contains none).

    ``day_pattern``: regular expression, searched in the series' name, whose group "day" is a number.
    """
    dropped = [f"mask_{name}" for name in class_names(manifest)] + ["ignore", "path", "file", "content_hash"]
    table = manifest.drop(columns=dropped)
    days = manifest["series"].str.extract(day_pattern)["day"] if day_pattern else pd.Series(index=manifest.index)
    return table.assign(day=pd.to_numeric(days, errors="coerce").astype(float))


def measured_classes(table: pd.DataFrame) -> list[str]:
    """Classes of an image table, in channel order."""
    return [name.removeprefix("area_") for name in map(str, table) if name.startswith("area_")]


def class_colours(table: pd.DataFrame, names: list[str]) -> np.ndarray:
    """The colours of some classes, uint8 (C, 3), the same as in all other figures."""
    all_names = measured_classes(table)
    return style.class_colours(len(all_names))[[all_names.index(name) for name in names]]


def per_class(table: pd.DataFrame, quantity: Literal["area", "objects"]) -> pd.DataFrame:
    """Pixels or connected components of each class (column) in each image (row)."""
    names = measured_classes(table)
    return table[[f"{quantity}_{name}" for name in names]].set_axis(names, axis=1)


def presence(table: pd.DataFrame) -> pd.DataFrame:
    """Whether each image (row) shows each class (column)."""
    return per_class(table, "area") > 0


def area_percent(table: pd.DataFrame) -> pd.DataFrame:
    """Percentage of each image that each class covers."""
    return 100 * per_class(table, "area").div(table["height"] * table["width"], axis=0)


def top_classes(table: pd.DataFrame, number: int) -> tuple[list[str], str]:
    """The most frequent classes, in channel order, and a note on the rest ("" if none are left out)."""
    shown = presence(table).sum()
    names = list(shown.index)
    selected = set(shown.sort_values(ascending=False, kind="stable").index[:number])
    if len(selected) == len(names):
        return names, ""
    rest = int(shown.drop(list(selected)).sum())
    omitted = len(names) - len(selected)
    return [name for name in names if name in selected], (
        f"the {len(selected)} most frequent of {len(names)} classes; the other {omitted} occur {rest:,} times in total"
    )


def count_cooccurrence(table: pd.DataFrame) -> pd.DataFrame:
    """Number of images with both classes (row and column); on the diagonal, images with the class."""
    shown = presence(table)
    counts = shown.to_numpy(dtype=np.float32)  # exact up to 16 million images; BLAS has no integers
    return pd.DataFrame((counts.T @ counts).astype(np.int64), index=shown.columns, columns=shown.columns)


def classes_along_series(table: pd.DataFrame) -> pd.DataFrame:
    """Percentage of images that show each class (row), by part of the series (column, from its first frames).

    Frames are ranked within their series, because frame numbers may have gaps. There are as many parts as the median
    series has frames, at most ``MAX_PARTS``; a part without images is NaN.
    """
    rank = table.groupby("series")["frame"].rank(method="first") - 1
    length = table.groupby("series")["frame"].transform("size")
    parts = int(min(MAX_PARTS, table.groupby("series").size().median()))
    part = ((rank + 0.5) / length * parts).astype(int)
    return 100 * presence(table).groupby(part.to_numpy()).mean().reindex(range(parts)).T


def classes_by_day(table: pd.DataFrame) -> pd.DataFrame:
    """Percentage of images that show each class (row), by day (column); no columns if no day is known."""
    dated = table[table["day"].notna()]
    return 100 * presence(dated).groupby(dated["day"].to_numpy()).mean().T


def draw_random_rows(manifest: pd.DataFrame, *, number: int, seed: int) -> pd.DataFrame:
    """At most ``number`` rows, drawn at random, in the manifest's order."""
    return manifest.sample(min(number, len(manifest)), random_state=seed).sort_index()


def pick_samples(
    manifest: pd.DataFrame,
    *,
    number: int,
    selection: Literal["stratified", "random"],
    image_ids: list[str],
    seed: int,
) -> pd.DataFrame:
    """The named images, then train images until there are ``number`` in total.

    With ``selection="stratified"``, each next image shows the class that is rarest among the images so far, or
    occasionally no class. Among the candidates, groups with the fewest images so far are preferred.

    Raises:
        ValueError: a named image is not in the manifest.
    """
    rows = manifest.set_index("image_id", drop=False).rename_axis(None)
    if unknown := [name for name in image_ids if name not in rows.index]:
        similar = difflib.get_close_matches(unknown[0], rows.index.tolist()[:10_000], n=3, cutoff=0.3)
        raise ValueError(
            f"the manifest has no image {', '.join(unknown)}, which `eda.sample_ids` names; "
            f"similar names: {', '.join(similar) or 'none'}"
        )
    train = rows[(rows["split"] == "train") & ~rows["image_id"].isin(image_ids)]
    num_missing = min(max(number - len(image_ids), 0), len(train))
    rng = np.random.default_rng(seed)
    drawn = (
        _draw_stratified(train, num_missing, rng)
        if selection == "stratified"
        else rng.permutation(len(train))[:num_missing]
    )
    return pd.concat([rows.loc[image_ids], train.iloc[drawn]]).reset_index(drop=True)


def _draw_stratified(rows: pd.DataFrame, number: int, rng: np.random.Generator) -> list[int]:
    present = presence(rows).to_numpy()
    strata = np.column_stack([present, ~present.any(axis=1)])
    groups = rows["group"].factorize()[0]
    free = np.ones(len(rows), dtype=bool)
    drawn: list[int] = []
    for _ in range(number):
        remaining = strata[free].sum(axis=0)
        shown = strata[drawn].sum(axis=0)
        shown[-1] = shown[-1] * EMPTY_WEIGHT + 1  # a few empty images are enough, and none comes first
        shown = np.where(remaining > 0, shown, np.inf)
        stratum = np.lexsort((remaining, shown))[0]  # the rarest of those shown least
        candidates = np.flatnonzero(strata[:, stratum] & free)
        times = np.bincount(groups[drawn], minlength=groups.max() + 1)[groups[candidates]]
        drawn.append(int(rng.choice(candidates[times == times.min()])))
        free[drawn[-1]] = False
    return drawn


def pick_series(manifest: pd.DataFrame, *, series: str | None, max_frames: int) -> pd.DataFrame:
    """Rows of a series in order, at most ``max_frames`` of them, evenly spaced.

    ``series=None`` chooses the series with the most annotated pixels, preferring series of several frames.

    Raises:
        ValueError: there is no series of that name.
    """
    areas = manifest[[f"area_{name}" for name in class_names(manifest)]].sum(axis=1)
    annotated = areas.groupby(manifest["series"].to_numpy()).sum()
    has_several = manifest["series"].value_counts().reindex(annotated.index) > 1
    name = str((annotated[has_several] if has_several.any() else annotated).idxmax()) if series is None else series
    if name not in annotated.index:
        similar = difflib.get_close_matches(name, annotated.index.tolist(), n=3, cutoff=0.3) or annotated.index[:3]
        raise ValueError(
            f"the manifest has no series {name}, which `eda.animation.series` names; "
            f"there are {len(annotated)}, such as {', '.join(similar)}"
        )
    rows = manifest[manifest["series"] == name].sort_values("frame", kind="stable", ignore_index=True)
    return spread(rows, max_frames).reset_index(drop=True)


def compare_splits(table: pd.DataFrame) -> pd.DataFrame:
    """How much the distribution of each quantity differs between splits, largest difference first.

    Columns: quantity, unit, class ("" for quantities of whole images), the mean in each split, distance, between (the
    two splits that differ most). The distance is the Kolmogorov-Smirnov distance, 0 to 1: the largest difference
    between the two cumulative distributions. Its scale is the same for all quantities, so they can be ranked. Area and
    objects of a class cover only images that show the class; the mean of a split without such images is NaN. Splits
    with fewer than ``MIN_IMAGES`` such images are not compared; the distance is NaN if fewer than two splits are left.
    """
    splits = [name for name in SPLITS if (table["split"] == name).any()]
    rows = [
        {"quantity": quantity, "unit": unit, "class": name, **_compare(values, table["split"], splits)}
        for quantity, unit, name, values in _quantities(table)
    ]
    return pd.DataFrame(rows).sort_values("distance", ascending=False, kind="stable", ignore_index=True)


def _quantities(table: pd.DataFrame) -> list[tuple[str, str, str, pd.Series]]:
    shown, areas = presence(table), area_percent(table)
    quantities = [
        ("images without a mask", "%", "", ~shown.any(axis=1) * 100.0),
        ("height", "pixels", "", table["height"]),
        ("width", "pixels", "", table["width"]),
        ("maximum intensity", "", "", table["intensity_max"]),
    ]
    for name in measured_classes(table):
        with_class = shown[name]
        quantities.append(("images with the class", "%", name, with_class * 100.0))
        quantities.append(("area, if present", "% of image", name, areas[name][with_class]))
        quantities.append(("objects, if present", "", name, table[f"objects_{name}"][with_class]))
    return quantities


def _compare(values: pd.Series, split: pd.Series, splits: list[str]) -> dict[str, float | str]:
    parts = {name: values[split[values.index] == name].to_numpy(dtype=float) for name in splits}
    pairs = list(itertools.combinations([name for name in splits if len(parts[name]) >= MIN_IMAGES], 2))
    distances = [float(ks_2samp(parts[first], parts[second], method="asymp").statistic) for first, second in pairs]
    means = {name: float(part.mean()) if len(part) else float("nan") for name, part in parts.items()}
    if not pairs:
        return {**means, "distance": float("nan"), "between": ""}
    widest = int(np.argmax(distances))
    return {**means, "distance": distances[widest], "between": " and ".join(pairs[widest])}


def describe_difference(report: pd.DataFrame) -> str:
    """A sentence on the largest difference in a split report."""
    row = report.iloc[0]
    if np.isnan(row["distance"]):
        return f"unknown, because fewer than two splits have {MIN_IMAGES} images"
    if row["distance"] == 0:
        return "none"
    between = row["between"].split(" and ")
    class_text = f"{row['class']}: " if row["class"] else ""
    quantity = row["quantity"] if row["unit"] == "%" else f"mean {row['quantity']}"  # a share is already a mean
    unit = f" ({row['unit']})" if row["unit"] else ""
    means = [f"{name} {row[name]:,.0f}" if row[name] >= 1000 else f"{name} {row[name]:.3g}" for name in between]
    return f"{class_text}{quantity}{unit}: {', '.join(means)} (KS distance {row['distance']:.2f})"
