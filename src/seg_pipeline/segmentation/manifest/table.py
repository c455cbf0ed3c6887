"""The manifest: the image table, one row per image, that all later steps read.

Its columns are declared in ``table_schemas.MANIFEST`` and described in docs/reference/tables.md.
"""

import functools
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Literal, TypeVar

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.masks import IGNORE, decode_rle
from seg_pipeline.segmentation.manifest.findings import (
    collect,
    describe,
    duplicated_text,
    findings_table,
    is_among,
    note_repairs,
    places_in,
    quarantine,
    quarantine_unusable,
    same_texts,
    without,
)
from seg_pipeline.segmentation.manifest.metadata import MaskFormat
from seg_pipeline.segmentation.objects.gaps import seams
from seg_pipeline.segmentation.objects.label_maps import decode_labels
from seg_pipeline.segmentation.storage.stored_columns import as_stored

SPLITS = ("train", "val", "test")
OF_CLASSES = ("mask_", "area_", "share_", "objects_")
"""Prefixes of the columns that exist once per class."""
OBJECT_MAP = "object_map_"
"""Prefix of the columns with the objects of a class, as ``objects.label_maps.encode_labels`` writes them; they exist
only where `dataset.objects` is set."""
Rows = TypeVar("Rows", pd.DataFrame, pd.Series)
NOT_ANNOTATED = "?"
"""A mask in a manifest of several data sets, if the image's data set does not annotate the class."""


def class_names(manifest: pd.DataFrame) -> list[str]:
    """Classes in channel order."""
    return [name.removeprefix("mask_") for name in map(str, manifest) if name.startswith("mask_")]


def spread(rows: Rows, number: int) -> Rows:
    """At most ``number`` rows, evenly spread over all."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(number, len(rows))).round().astype(int))]


def natural_key(text: str) -> list[str | int]:
    """Key that sorts v_2 before v_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def read_masks(row: Mapping, names: list[str]) -> np.ndarray:
    """Masks of a manifest row at native size: uint8 (C, H, W) of 0, 1 and ``IGNORE``.

    Ignored are unlabelled pixels in every class, and all pixels of a class that is not annotated.
    """
    shape = (int(row["height"]), int(row["width"]))
    runs = [row[f"mask_{name}"] for name in names]
    masks = np.stack([decode_rle("" if text == NOT_ANNOTATED else text, shape, order="C") for text in runs])
    masks = masks.astype(np.uint8)
    masks[[text == NOT_ANNOTATED for text in runs]] = IGNORE
    if row["ignore"]:
        masks[:, decode_rle(row["ignore"], shape, order="C")] = IGNORE
    return masks


def read_shown_masks(row: Mapping, names: list[str], *, side: int) -> np.ndarray:
    """Masks to draw, bool (C, H, W): as ``read_masks``, and cut where objects touch, so that each has an outline.

    Args:
        side: longer side of the picture in pixels, in which the cut must still be seen.
    """
    masks = read_masks(row, names) == 1
    width = -(-max(masks.shape[1:]) // side)
    for name, mask in zip(names, masks, strict=True):
        if text := row.get(f"{OBJECT_MAP}{name}"):
            mask &= ~seams(decode_labels(text, mask.shape), width)  # noqa: PLW2901  in place
    return masks


READ = 2048
"""Rows that are read from a column on disk at once."""
RECORDS = 256
"""Rows that are Python objects at once: all of them would take five times the memory of their table."""


def iter_records(table: pd.DataFrame) -> Iterator[dict]:
    """Rows as dictionaries, few at a time."""
    return itertools.chain.from_iterable(record_blocks(table, RECORDS))


def record_blocks(table: pd.DataFrame, size: int) -> Iterator[list[dict]]:
    """Rows as dictionaries, in blocks of ``size``."""
    names = list(map(str, table))
    step = size * max(1, READ // size)
    for start in range(0, len(table), step):
        block = table.iloc[start : start + step]
        rows = zip(*(block[name].tolist() for name in names), strict=True)  # half the time of to_dict
        while some := list(itertools.islice(rows, size)):
            yield [dict(zip(names, values, strict=True)) for values in some]


def refuse_test(rows: pd.DataFrame, purpose: str) -> None:
    """Raise ValueError if ``rows`` hold images of the test split, which nothing may be trained or chosen on."""
    held_out = rows.loc[rows["split"] == "test", "image_id"]
    if len(held_out):
        raise ValueError(
            f"{len(held_out)} images of the test split ({', '.join(held_out.head(3))}) would be read to {purpose}: it "
            "is held out for the final scores only; give rows of train and val, as in the catalog's `train_val_images`"
        )


def count_classes(manifest: pd.DataFrame) -> pd.DataFrame:
    """Number of images that show each class, or none: one row per class and "no mask", one column per split."""
    present = (manifest[[f"area_{name}" for name in class_names(manifest)]] > 0).set_axis(class_names(manifest), axis=1)
    present["no mask"] = ~present.any(axis=1)
    counts = present.groupby(manifest["split"].to_numpy()).sum().T
    return counts.reindex(columns=list(SPLITS), fill_value=0).astype("int64")


def data_hash(manifest: pd.DataFrame, *, folds: bool = False) -> str:
    """SHA-256 over pixels, masks, series and splits (and ``folds``); independent of the folder of the files."""
    columns = [
        "image_id",
        "content_hash",
        "series",
        "frame",
        "split",
        *(["fold"] if folds else []),
        "ignore",
        *(f"mask_{name}" for name in class_names(manifest)),
        *(name for name in map(str, manifest) if name.startswith(OBJECT_MAP)),
    ]
    rows = pd.util.hash_pandas_object(manifest[columns].sort_values("image_id"), index=False)
    return hashlib.sha256(rows.to_numpy().tobytes()).hexdigest()


def with_pseudo_labels(rows: pd.DataFrame, pseudo: pd.DataFrame) -> pd.DataFrame:
    """Manifest rows and those of ``pseudo`` whose image they do not hold; these are in no split but train.

    Raises:
        ValueError: the classes differ, the rows are of several sources, or a pseudo-label is not of the train split.
    """
    if class_names(rows) != class_names(pseudo):
        raise ValueError(
            f"the pseudo-labels have the classes {class_names(pseudo)}, the images {class_names(rows)}; run `select` "
            "again with a model of these classes"
        )
    if "source" in rows:
        raise ValueError("pseudo-labels cannot join a combined data set, whose images each need a known source")
    if set(pseudo["split"]) - {"train"} or (pseudo["fold"] != -1).any():
        raise ValueError("pseudo-labels must be of the train split and of no fold; run `select` again")
    new = pseudo[~pseudo["content_hash"].isin(rows["content_hash"])]
    return pd.concat([rows, new.reindex(columns=list(rows))], ignore_index=True)


def merge_files(
    annotated: pd.DataFrame,
    image_files: pd.DataFrame,
    mask_files: pd.DataFrame,
    *,
    mask_format: MaskFormat,
    images_without_row: Literal["drop", "empty"] = "drop",
    refused: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join annotated images with their files.

    Args:
        annotated: one row per image: image_id, row, mask_<class> lists.
        image_files: index of the image files: image_id, file, path and other columns from their names.
        mask_files: index of the mask files with mask_id, file, path; not read for mask_format "rle".
        mask_format: for "files" and "indexed" the mask lists hold ids, which become paths.
        images_without_row: an image that no row names is not annotated ("drop") or shows no class ("empty").
        refused: findings of ``clean_annotations``. An image that they dropped is neither reported again nor empty.

    Returns:
        Table as ``annotated`` plus the columns of ``image_files`` and group, series, frame; findings.

    Raises:
        ValueError: no annotated image has a file, or a column of ``image_files`` has a name that the manifest needs.
    """
    _refuse_names(image_files)
    refused = findings_table([]) if refused is None else refused
    texts = {name: as_stored(image_files[name]) for name in ("path", "file")}
    files, repaired = note_repairs(image_files.assign(**texts), "repaired_file")
    files, unusable = quarantine_unusable(files)
    files, unmatched = quarantine(
        files, files["image_id"].isna(), "unmatched_name", "the file name does not match the pattern"
    )
    several = duplicated_text(files["image_id"], keep=False)
    files, twins = quarantine(files, several, "duplicate_file", "several files have the image_id {image_id}")
    known = ~is_among(files["image_id"], refused.loc[refused["action"] == "dropped", "image_id"].dropna())
    known |= is_among(files["image_id"], annotated["image_id"])
    files = without(files, ~known)  # the others have a finding each
    if images_without_row == "empty":
        annotated = pd.concat([annotated, _without_masks(files, annotated)], ignore_index=True)
    rest, without_row = quarantine(
        files, ~is_among(files["image_id"], annotated["image_id"]), "file_without_row", "no metadata row names it"
    )
    refused_files = collect(unusable, twins)["image_id"].dropna()
    rows = without(annotated, is_among(annotated["image_id"], refused_files))
    rows, without_file = quarantine(
        rows, ~is_among(rows["image_id"], files["image_id"]), "row_without_file", "no image file has this id"
    )
    findings = collect(repaired, unusable, unmatched, twins, without_row, without_file)
    if rows.empty:
        told = findings[~findings["rule"].isin(["file_without_row", "row_without_file"])]
        _refuse_all(annotated, image_files, collect(refused, told))
    place = places_in(rows["image_id"], rest["image_id"])  # each image has one file now
    columns = {name: rest[name].array.take(place) for name in map(str, rest) if name != "image_id"}
    merged = _with_series(rows.assign(**columns))
    merged, of_masks = _with_mask_paths(merged, mask_files) if mask_format != "rle" else (merged, findings[:0])
    order = merged["image_id"].array.argsort()
    if (np.diff(order) != 1).any():
        merged = merged.take(order)
    return merged.reset_index(drop=True), collect(findings, of_masks)


def _refuse_names(image_files: pd.DataFrame) -> None:
    taken = [name for name in map(str, image_files) if name == "row" or name.startswith((*OF_CLASSES, OBJECT_MAP))]
    if taken:
        raise ValueError(
            f"the file names of `image_files` give the columns {taken}, whose names the manifest uses itself; rename "
            "these groups of `pattern`"
        )


def _refuse_all(annotated: pd.DataFrame, image_files: pd.DataFrame, findings: pd.DataFrame) -> None:
    """Raise ValueError: no image is left."""
    ids, others = annotated["image_id"], image_files["image_id"].dropna()
    reasons = [describe(findings)] if len(findings) else []
    if len(ids) and len(others) and not is_among(ids, others).any():
        reasons.append(
            f"the table's ids are like {ids.head(3).tolist()}, those that the files' names give like "
            f"{others.head(3).tolist()}; fix `pattern` of `image_files` in the catalog"
        )
    if is_among(ids.astype("str").str.lstrip("0"), others.astype("str").str.lstrip("0")).any():
        reasons.append("they differ in leading zeros: read the table with `load_args: { dtype: str }`")
    raise ValueError(f"no image of the metadata table has a file: {'; '.join(filter(None, reasons))}")


def late_files(listed: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """Findings about files that are in the index ``now``, but were not when the run listed them."""
    if same_texts(now["file"], listed["file"]):
        return findings_table([])
    came = ~is_among(now["file"], listed["file"])
    return quarantine(now, came, "late_file", "the file came while data_processing ran", "flagged")[1]


def _without_masks(files: pd.DataFrame, annotated: pd.DataFrame) -> pd.DataFrame:
    """Rows like those of ``annotated``, with empty lists of masks, for the images that it does not name."""
    ids = files.loc[~is_among(files["image_id"], annotated["image_id"]), "image_id"]
    masks: dict[str, list] = {name: [[] for _ in ids] for name in map(str, annotated) if name.startswith("mask_")}
    return pd.DataFrame({"image_id": ids, "row": pd.array([pd.NA] * len(ids), dtype="Int64"), **masks})


def _with_series(images: pd.DataFrame) -> pd.DataFrame:
    """Add group, series and frame; what the names do not give comes from the next narrower unit.

    If several groups have a series of one name, such as day1 of each patient, series are named group/series. Frames
    follow the natural order of the files.
    """
    group = _first_told(images, ["group", "series", "image_id"])
    series = _first_told(images.assign(group=group), ["series", "group"])
    if (group.groupby(series).nunique() > 1).any():
        series = group + "/" + series
    images = images.assign(group=group, series=series)
    if "frame" in images and images["frame"].notna().all():
        return images.astype({"frame": "int64"})
    files = images["file"].tolist()
    ordered = images.iloc[sorted(range(len(files)), key=lambda at: natural_key(files[at]))]
    place = ordered.groupby("series").cumcount().reindex(images.index)
    return images.assign(frame=images["frame"].fillna(place).astype("int64") if "frame" in images else place)


def _first_told(images: pd.DataFrame, columns: list[str]) -> pd.Series:
    """The first non-missing value of the columns, row by row; a group of a pattern may be missing in a match."""
    there = [images[name] for name in columns if name in images]
    return functools.reduce(lambda one, other: one.fillna(other), there)


def _with_mask_paths(images: pd.DataFrame, mask_files: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    files, unmatched = quarantine(
        mask_files,
        mask_files["mask_id"].isna(),
        "unmatched_name",
        "the mask file's name does not match the pattern",
    )
    columns = [f"mask_{name}" for name in class_names(images)]
    ids = pd.Series(
        [list(itertools.chain(*lists)) for lists in images[columns].itertuples(index=False)],
        index=images.index,
        dtype=object,
    )
    named = is_among(files["mask_id"], pd.Series(list(itertools.chain.from_iterable(ids)), dtype=object))
    files, unnamed = quarantine(
        files, ~named, "mask_file_without_row", "no row of a usable image names this mask", "flagged"
    )
    several = files.duplicated("mask_id", keep=False)
    _, twins = quarantine(files, several, "duplicate_mask_file", "several mask files have the id {mask_id}")
    doubtful, known = set(files.loc[several, "mask_id"]), set(files["mask_id"])
    unsure = ids.map(lambda wanted: not doubtful.isdisjoint(wanted)).astype(bool)
    absent = ids.map(lambda wanted: not known.issuperset(wanted)).astype(bool) & ~unsure
    _, of_unsure = quarantine(
        images,
        unsure,
        "duplicate_mask_file",
        "a row names a mask id that several mask files have, so it is unknown which is right",
    )
    _, of_absent = quarantine(
        images,
        absent,
        "mask_without_file",
        "no mask file has the id that a metadata row names, so the image's masks are incomplete",
    )
    whole = images[~unsure & ~absent].copy()
    paths = files.set_index("mask_id")["path"].to_dict()
    for column in columns:
        whole[column] = [[paths[mask_id] for mask_id in mask_ids] for mask_ids in whole[column]]
    return whole, collect(unmatched, unnamed, twins, of_unsure, of_absent)
