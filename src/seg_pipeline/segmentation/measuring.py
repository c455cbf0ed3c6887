"""The images of a table measured, block by block, into a manifest; what did not change since is not read again."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterator

import cv2
import joblib
import pandas as pd
from tqdm import tqdm

from seg_pipeline.segmentation.features import MaskReader, Outcome, measure_image
from seg_pipeline.segmentation.quality import Finding, findings_table, is_among

log = logging.getLogger(__name__)

VERSION = 2
"""Raised whenever the same file gives other measures, so that what was kept of before is measured anew."""
BLOCK = 4096
"""Rows that are Python objects at once; in a table they take a fifth of the memory."""
MEASURES = ("key", "found")
"""Columns of what is kept from run to run, before the features, which are missing where an image cannot be used.

``key`` changes with whatever the measures depend on; ``found`` is JSON of the findings, or "".
"""


def measure_images(
    table: pd.DataFrame, reader: MaskReader, *, num_workers: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Manifest of the images that can be read, without splits, and findings for the rest.

    Raises:
        ValueError: not one image can be used.
    """
    manifest, findings, _ = measure_changed(table, reader, None, num_workers=num_workers)
    return manifest, findings


def measure_changed(
    table: pd.DataFrame, reader: MaskReader, known: pd.DataFrame | None, *, num_workers: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The same, reading only images that are not ``known``: new ones and those that changed.

    Images go through joblib: `joblib.parallel_config(backend=...)` moves the work to another pool.

    Args:
        known: what was measured before, as the third result: ``MEASURES`` and features.
    """
    table = table.reset_index(drop=True)
    keys = pd.Series([key_of(row, reader) for row in _records(table)], dtype="str")
    before = pd.DataFrame({"key": []}) if known is None else known[is_among(known["key"], keys)].drop_duplicates("key")
    fresh = ~is_among(keys, before["key"])
    measured = _measure_all(table[fresh], reader, num_workers)
    measured.insert(0, "key", keys[fresh].set_axis(measured.index))
    log.info("%d images read, %d unchanged since they were last", fresh.sum(), len(before))
    measures = pd.concat([part for part in (before, measured) if len(part)], ignore_index=True)
    measures = measures.iloc[pd.Index(measures["key"]).get_indexer(pd.Index(keys))].reset_index(drop=True)
    manifest, findings = _manifest(table, measures), _findings(table, measures["found"])
    if manifest.empty:
        raise ValueError(
            f"none of the {len(table)} images can be used; the first finding: {findings.iloc[0]['reason']}"
        )
    return manifest, findings, measures


def _records(table: pd.DataFrame) -> Iterator[dict]:
    """Rows as dictionaries, of which a block is there at once."""
    for start in range(0, len(table), BLOCK):
        yield from table.iloc[start : start + BLOCK].to_dict("records")


def key_of(row: dict, reader: MaskReader) -> str:
    """Changes with whatever the measures of an image depend on: its files, its row, the settings, this code.

    A file counts as changed when its size or time of change does.
    """
    masks = [source for name, value in row.items() if name.startswith("mask_") for source in value]
    told = {name: value for name, value in row.items() if not name.startswith("mask_") and name != "row"}
    stamps = [_stamp(path) for path in (row["path"], *(masks if reader.form != "rle" else ()))]
    return hashlib.sha256(repr((VERSION, reader, told, masks, stamps)).encode()).hexdigest()


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        about = os.stat(path)  # noqa: PTH116  a Path costs as much as the call
    except (OSError, ValueError):
        return None
    return about.st_size, about.st_mtime_ns


def _measure_all(table: pd.DataFrame, reader: MaskReader, num_workers: int) -> pd.DataFrame:
    """``found`` and features of each row."""
    parallel = joblib.Parallel(n_jobs=num_workers, return_as="generator")
    outcomes = parallel(joblib.delayed(_measure)(row, reader) for row in _records(table))
    bar = iter(tqdm(outcomes, total=len(table), desc="reading images", unit="image", disable=None))
    threads = cv2.getNumThreads()
    blocks = [_block(found) for found in iter(lambda: list(itertools.islice(bar, BLOCK)), [])]
    cv2.setNumThreads(threads)
    return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame({"found": []})


def _measure(row: dict, reader: MaskReader) -> Outcome:
    """On one core: in an image of some hundred rows, OpenCV's threads cost more than they save."""
    cv2.setNumThreads(1)
    return measure_image(row, reader)


def _block(outcomes: list[Outcome]) -> pd.DataFrame:
    features = {at: outcome.features for at, outcome in enumerate(outcomes) if outcome.features is not None}
    table = pd.DataFrame(list(features.values()), index=list(features))
    table = table.astype(dict.fromkeys(table.select_dtypes("int64"), "Int64")).reindex(range(len(outcomes)))
    found = [json.dumps(outcome.findings) if outcome.findings else "" for outcome in outcomes]
    table.insert(0, "found", pd.Series(found, dtype="str"))
    return table


def _manifest(table: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """What the table tells of the images that can be used, and their features, which win over it."""
    features = measures.drop(columns=list(MEASURES))
    usable = features.notna().any(axis=1)
    features = features[usable].astype(dict.fromkeys(features.select_dtypes("Int64"), "int64"))
    told = table.loc[usable, [name for name in map(str, table) if name != "row" and not name.startswith("mask_")]]
    return told.assign(**{str(name): column.array for name, column in features.items()}).reset_index(drop=True)


def _findings(table: pd.DataFrame, found: pd.Series) -> pd.DataFrame:
    odd = found != ""
    rows = _records(table.loc[odd, ["image_id", "file", "row"]])
    return findings_table(
        Finding(rule, reason, action, row["image_id"], row["file"], row["row"] if of_row else None)
        for row, text in zip(rows, found[odd], strict=True)
        for rule, reason, action, of_row in json.loads(text)
    )
