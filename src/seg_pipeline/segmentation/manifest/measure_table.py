"""The images of a table measured, block by block, into a manifest; what did not change since is not read again."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterator

import cv2
import joblib
import pandas as pd
from pandas.api.extensions import ExtensionArray
from tqdm import tqdm

from seg_pipeline.segmentation.manifest.findings import Finding, findings_table, is_among
from seg_pipeline.segmentation.manifest.measure_image import MaskReader, measure_image

log = logging.getLogger(__name__)

VERSION = 2
"""Raised whenever the same file gives other measures, so that what was kept of before is measured anew."""
BLOCK = 256
"""Rows that a worker takes at once: Python objects only there, as in a table they take a fifth of the memory."""
JOINED = 32
"""Tables of so many blocks become one, as each table takes memory of its own."""
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
    if known is None or not {"key", "found"} <= set(known):  # none, or a table of an older version
        measures = _measure_all(table, reader, num_workers)
    else:
        measures = _renew(known, table, reader, num_workers)
    manifest, findings = _manifest(table, measures), _findings(table, measures["found"])
    if manifest.empty:
        raise ValueError(
            f"none of the {len(table)} images can be used; the first finding: {findings.iloc[0]['reason']}"
        )
    return manifest, findings, measures


def _renew(known: pd.DataFrame, table: pd.DataFrame, reader: MaskReader, num_workers: int) -> pd.DataFrame:
    """Measures of each row of the table, read anew where they are not ``known``."""
    keys = pd.Series([key_of(row, reader) for block in _blocks(table) for row in block], dtype="str")
    kept = known[is_among(known["key"], keys)].drop_duplicates("key")
    fresh = ~is_among(keys, kept["key"])
    log.info("%d images are unchanged since they were last read", len(kept))
    parts = [kept, _measure_all(table[fresh], reader, num_workers)]
    measures = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return measures.iloc[pd.Index(measures["key"]).get_indexer(pd.Index(keys))].reset_index(drop=True)


def _blocks(table: pd.DataFrame, size: int = BLOCK) -> Iterator[list[dict]]:
    """Rows as dictionaries, ``size`` at once."""
    names = list(map(str, table))
    for start in range(0, len(table), size):
        block = table.iloc[start : start + size]
        columns = (block[name].tolist() for name in names)  # half the time of to_dict
        yield [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def key_of(row: dict, reader: MaskReader) -> str:
    """Changes with whatever the measures of an image depend on: its files, its row, the settings, this code.

    A file counts as changed when its size or time of change does.
    """
    of_masks, others = _parts(tuple(row))
    masks = [source for name in of_masks for source in row[name]]
    told = [(name, row[name]) for name in others]
    stamps = [_stamp(path) for path in (row["path"], *(masks if reader.mask_format != "rle" else ()))]
    return hashlib.sha256(repr((VERSION, reader.settings, told, masks, stamps)).encode()).hexdigest()


@functools.lru_cache(maxsize=8)
def _parts(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Columns of masks, and those that tell something else of an image; a row's place in the table does not matter."""
    of_masks = [name for name in names if name.startswith("mask_")]
    return of_masks, [name for name in names if name not in of_masks and name != "row"]


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        about = os.stat(path)  # noqa: PTH116  a Path costs as much as the call
    except (OSError, ValueError):
        return None
    return about.st_size, about.st_mtime_ns


def _measure_all(table: pd.DataFrame, reader: MaskReader, num_workers: int) -> pd.DataFrame:
    """Measures of each row."""
    parallel = joblib.Parallel(n_jobs=num_workers, return_as="generator")
    size = min(BLOCK, -(-len(table) // (4 * joblib.effective_n_jobs(num_workers))))  # some blocks for each worker
    measured = parallel(joblib.delayed(_measure)(rows, reader) for rows in _blocks(table, max(size, 1)))
    blocks: list[pd.DataFrame] = []
    with tqdm(total=len(table), desc="reading images", unit="image", disable=None) as bar:
        for number, block in enumerate(measured, start=1):
            blocks.append(block)
            bar.update(len(block))
            if number % JOINED == 0:
                blocks[-JOINED:] = [pd.concat(blocks[-JOINED:], ignore_index=True)]
    log.info("%d images read", len(table))
    return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame({name: [] for name in MEASURES})


def _measure(rows: list[dict], reader: MaskReader) -> pd.DataFrame:
    """On one core: in an image of some hundred rows, OpenCV's threads cost more than they save."""
    keys = [key_of(row, reader) for row in rows]  # before: of a file that changes meanwhile, nothing is kept
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        outcomes = [measure_image(row, reader) for row in rows]
    finally:
        cv2.setNumThreads(threads)
    features = {at: outcome.features for at, outcome in enumerate(outcomes) if outcome.features is not None}
    names = next(iter(features.values()), ())
    columns = {name: _column([one[name] for one in features.values()]) for name in names}
    table = pd.DataFrame(columns, index=list(features)).reindex(range(len(rows)))
    found = [json.dumps(outcome.findings) if outcome.findings else "" for outcome in outcomes]
    table.insert(0, "key", pd.Series(keys, dtype="str"))
    table.insert(1, "found", pd.Series(found, dtype="str"))
    return table


def _column(values: list) -> ExtensionArray:
    """Whole numbers stay whole beside missing ones."""
    return pd.Series(values, dtype="Int64" if isinstance(values[0], int) else None).array


def _manifest(table: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """What the table tells of the images that can be used, and their features, which win over it."""
    features = measures.drop(columns=list(MEASURES))
    usable = features.notna().any(axis=1)
    features = features[usable].astype(dict.fromkeys(features.select_dtypes("Int64"), "int64"))
    told = table.loc[usable, [name for name in map(str, table) if name != "row" and not name.startswith("mask_")]]
    return told.assign(**{str(name): column.array for name, column in features.items()}).reset_index(drop=True)


def _findings(table: pd.DataFrame, found: pd.Series) -> pd.DataFrame:
    odd = found != ""
    rows = itertools.chain.from_iterable(_blocks(table.loc[odd, ["image_id", "file", "row"]]))
    return findings_table(
        Finding(rule, reason, action, row["image_id"], row["file"], row["row"] if of_row else None)
        for row, text in zip(rows, found[odd], strict=True)
        for rule, reason, action, of_row in json.loads(text)
    )
