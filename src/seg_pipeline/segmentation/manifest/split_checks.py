"""Check splits for leaks and for what is missing from one, and count what each holds."""

from collections import defaultdict

import pandas as pd

from seg_pipeline.segmentation.manifest.findings import (
    Finding,
    duplicated_text,
    findings_table,
    is_among,
    places_in,
    without,
)
from seg_pipeline.segmentation.manifest.table import SPLITS, class_names, iter_records


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
    table = with_splits(manifest[columns], splits)
    seen = table[table["intensity_min"] < table["intensity_max"]]
    seen = seen[duplicated_text(seen["content_hash"], keep=False)]
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
    several = table[is_among(table[column], pairs.loc[duplicated_text(pairs[column]), column])]
    ids, places = defaultdict(list), defaultdict(set)
    for row in iter_records(several[["image_id", column, place]]):  # a frame per value would take 100 us
        ids[row[column]].append(row["image_id"])
        places[row[column]].add(row[place])
    return [
        f"{column} {str(value)[:16]} is in {' and '.join(_placed(place, places[value]))} ({', '.join(ids[value][:3])})"
        for value in sorted(ids)
    ]


def _placed(place: str, values: set) -> list[str]:
    return [str(value) if place == "split" else f"fold {value}" for value in sorted(values)]


def with_splits(images: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """The images with their split and fold; it shares the other columns, of which a join would make copies."""
    place = places_in(images["image_id"], splits["image_id"])
    images, place = without(images, place < 0), place[place >= 0]
    columns = {name: splits[name].array.take(place) for name in ("split", "fold")}
    return images.assign(**columns)


def missing_classes(manifest: pd.DataFrame, shares: dict[str, float] | None = None) -> pd.DataFrame:
    """A finding per class that a split lacks, or one for a split that has a share (None: each has) but no image."""
    names, found = class_names(manifest), []
    areas = manifest[[f"area_{name}" for name in names]]
    for split in SPLITS:
        rows = areas[manifest["split"] == split]
        if rows.empty and shares and not shares[split]:
            continue
        if rows.empty:
            instead = ": evaluation scores val" * (split == "test")
            reasons = [f"no image is in the {split} split; it gives no scores{instead}"]
        else:
            absent = [name for name in names if not rows[f"area_{name}"].any()]
            reasons = [
                f"none of the {len(rows)} {split} images shows {name}; its scores there are undefined"
                for name in absent
            ]
        found += [Finding("class_missing_from_split", reason, "flagged") for reason in reasons]
    return findings_table(found)


def fewer_folds(splits: pd.DataFrame, folds: int) -> pd.DataFrame:
    """A finding if fewer folds were made than requested."""
    made = int(splits["fold"].max()) + 1
    if made >= folds:
        return findings_table([])
    reason = f"{made} folds instead of {folds}: train and val have too few groups"
    return findings_table([Finding("fewer_folds", reason, "flagged")])


def split_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """Images, groups and share per split, and ``has_<class>``, the share of its images that show the class."""
    names = class_names(manifest)
    table = manifest[["split", "group", *(f"area_{name}" for name in names)]]
    rows = []
    for split in SPLITS:
        part = table[table["split"] == split]
        shown = {f"has_{name}": float((part[f"area_{name}"] > 0).mean()) if len(part) else 0.0 for name in names}
        share = len(part) / len(manifest)
        rows.append({"split": split, "images": len(part), "groups": part["group"].nunique(), "share": share, **shown})
    return pd.DataFrame(rows)
