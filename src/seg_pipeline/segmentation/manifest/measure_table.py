"""Measure all images of a table, block by block; unchanged images are not read again."""

import functools
import hashlib
import itertools
import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import cv2
import pandas as pd
from pandas.api.extensions import ExtensionArray

from seg_pipeline.segmentation.images.addresses import file_of
from seg_pipeline.segmentation.images.remote import is_remote, stamp_remote
from seg_pipeline.segmentation.manifest.findings import (
    Finding,
    duplicated_text,
    findings_table,
    is_among,
    places_in,
    without,
)
from seg_pipeline.segmentation.manifest.measure_image import MaskReader, Outcome, measure_image
from seg_pipeline.segmentation.manifest.table import RECORDS, iter_records, record_blocks
from seg_pipeline.segmentation.parallel.cluster import make_executor
from seg_pipeline.segmentation.parallel.ordered_map import map_ordered
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.storage.atomic import replacing, sweep
from seg_pipeline.segmentation.storage.stored_columns import read_table, write_table

log = logging.getLogger(__name__)

VERSION = 4
"""Raise it whenever the same file gives other measurements, so that stored ones are measured again."""
JOINED = 32
"""Number of block tables that are joined early, because each table has its own overhead of memory."""
SPILLED = 4096
"""Rows from which the masks of such a table are kept on disk."""
PART_SECONDS = 0.1
"""Seconds of measuring that a killed run loses, unless writing a part takes more than a twentieth of that. A block of
256 images takes 0.2 s on one core, and 5 ms to write."""
PARTS = "part-*.parquet"
LOST = (
    "io_error",
    "the process that read it died three times: the image or a mask crashes its decoder, or memory ran out (use fewer "
    "workers)",
    "dropped",
    False,
)
"""Finding of an image that is read again by the next run, as memory may suffice then."""
AT_ONCE = ("exif_orientation",)
"""Rules about which thousands of photos say the same."""
MEASURES = ("key", "found")
"""Columns of the stored measurements before the features, which are missing for unusable images.

``key`` changes with everything that the measurements depend on; ``found`` is JSON of the findings, or "".
"""


def measure_images(table: pd.DataFrame, reader: MaskReader) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``join_measurements`` of ``measure_rows``, with nothing stored."""
    return join_measurements(table, measure_rows(table, reader, None))


def measure_rows(
    table: pd.DataFrame,
    reader: MaskReader,
    known: pd.DataFrame | None,
    *,
    num_workers: int = 1,
    folder: Path | None = None,
) -> pd.DataFrame:
    """Measurements of each row of ``table``, to store for the next run; only new and changed images are read.

    Args:
        known: the result of an earlier call: ``MEASURES`` and features.
        folder: where new measurements are written as they come, in tables part-00000.parquet and so on, of which the
            next run reads what a killed one has written. Delete them by ``remove_parts`` when the result is stored.
    """
    keys = None
    parts = [one for one in [known, *_read_parts(folder)] if one is not None and {"key", "found"} <= set(one)]
    if parts:  # else there is nothing, or an older version wrote it
        keys = pd.Series([key_of(row, reader) for row in iter_records(table)], dtype="str")
        stored = pd.concat(parts, ignore_index=True)
        passing = stored["found"].str.contains('"io_error"', regex=False)  # to be read again
        kept = stored[~passing & is_among(stored["key"], keys)]
        kept = kept[~duplicated_text(kept["key"]).to_numpy()]
        table = table[~is_among(keys, kept["key"]).to_numpy()]
        log.info("%d images are unchanged since they were last read", len(kept))
        parts = [kept] if len(kept) else []
    recent: list[pd.DataFrame] = []
    for block in _write_parts(_measure_all(table, reader, num_workers), folder):
        recent.append(block)
        if len(recent) == JOINED:
            joined = pd.concat(recent, ignore_index=True)
            if folder and len(joined) >= SPILLED:
                joined = _on_disk(joined, folder / f"joined-{len(parts)}.parquet")
            parts, recent = [*parts, joined], []
    parts += recent
    measures = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({name: [] for name in MEASURES})
    if keys is None:
        return measures
    return measures.iloc[places_in(keys, measures["key"])].reset_index(drop=True)


def _on_disk(block: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The block, whose masks are read when they are asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(block, path)
    return read_table(path, least_rows=1)


def remove_parts(folder: Path) -> None:
    """Remove what ``measure_rows`` has written to ``folder``, and the folder if nothing else is in it."""
    for path in [path for names in (PARTS, "joined-*.parquet", ".joined-*.arrow") for path in folder.glob(names)]:
        path.unlink()
    sweep(folder)
    with suppress(OSError):
        folder.rmdir()


def _write_parts(blocks: Iterator[pd.DataFrame], folder: Path | None) -> Iterator[pd.DataFrame]:
    """The blocks; those of the last ``PART_SECONDS`` are written together, which takes a twentieth of the time."""
    number = max((int(path.stem[5:]) + 1 for path in folder.glob(PARTS)), default=0) if folder else 0
    recent, due = [], monotonic() + PART_SECONDS
    for block in blocks:
        yield block
        recent.append(block)
        if folder and (start := monotonic()) >= due:
            with replacing(folder / f"part-{number:05d}.parquet") as path:
                pd.concat(recent, ignore_index=True).to_parquet(path)
            number, recent, end = number + 1, [], monotonic()
            due = end + max(PART_SECONDS, 20 * (end - start))


def _read_parts(folder: Path | None) -> Iterator[pd.DataFrame]:
    for path in sorted(folder.glob(PARTS)) if folder else ():
        try:
            yield pd.read_parquet(path)
        except (OSError, ValueError) as error:  # a machine that lost power
            log.warning("%s cannot be read (%s); its images are measured again", path, error)


def join_measurements(table: pd.DataFrame, measures: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Manifest of the usable images, without splits, and findings for the others.

    Args:
        table: as given to ``measure_rows``.
        measures: its result.

    Raises:
        ValueError: no image can be used, or ``measures`` are those of another table.
    """
    table = table.reset_index(drop=True)
    if len(measures) != len(table):
        raise ValueError(
            f"the stored measurements are of {len(measures)} images, but there are {len(table)} now; run "
            "`data_processing` from its node measure_images on"
        )
    manifest, findings = _manifest(table, measures), _findings(table, measures["found"])
    if manifest.empty:
        raise ValueError(
            f"none of the {len(table)} images can be used; the first finding: {findings.iloc[0]['reason']}"
        )
    return manifest, findings


def key_of(row: dict, reader: MaskReader) -> str:
    """Hash of everything that the measurements of an image depend on: its files, its row, the settings, this code.

    A file counts as changed if its size or modification time did: hashing contents would mean reading every file.
    Of an image in an inventory, these are in the row.
    """
    of_masks, others = _parts(tuple(row))
    masks = [source for name in of_masks for source in row[name]]
    told = [(name, row[name]) for name in others]
    image = () if isinstance(row.get("inventory_stamp"), str) else (row["path"],)
    stamps = [_stamp(path) for path in (*image, *(masks if reader.mask_format != "rle" else ()))]
    return hashlib.sha256(repr((VERSION, reader.settings, told, masks, stamps)).encode()).hexdigest()


@functools.lru_cache(maxsize=8)
def _parts(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Mask columns, and the other columns that matter; the position of a row in the table does not."""
    of_masks = [name for name in names if name.startswith("mask_")]
    return of_masks, [name for name in names if name not in of_masks and name != "row"]


def _stamp(path: str) -> tuple[int, int | str] | None:
    if is_remote(path):
        return stamp_remote(file_of(path))
    try:
        about = os.stat(file_of(path))  # noqa: PTH116  a Path costs as much as the call
    except (OSError, ValueError):
        return None
    return about.st_size, about.st_mtime_ns


def _measure_all(table: pd.DataFrame, reader: MaskReader, num_workers: int) -> Iterator[pd.DataFrame]:
    """Measurements of the rows, in order and block by block."""
    executor = make_executor(num_workers)
    size = min(RECORDS, -(-len(table) // (4 * executor.workers)))  # some blocks for each worker
    measure = functools.partial(_measure, reader=reader)

    def one_by_one(rows: list[dict]) -> pd.DataFrame:
        """Rows of which one kills the process that reads it."""
        if len(rows) == 1:
            return _measure(rows, reader, [Outcome(None, [LOST])])
        alone = map_ordered(executor, measure, ([row] for row in rows), 1, fallback=one_by_one)
        return pd.concat(list(alone), ignore_index=True)

    measured = map_ordered(executor, measure, record_blocks(table, max(size, 1)), fallback=one_by_one)
    with progress_bar(total=len(table), title="reading images", unit="images") as bar:
        for block in measured:
            bar.update(len(block))
            yield block
    log.info("%d images read", len(table))


def _measure(rows: list[dict], reader: MaskReader, outcomes: list[Outcome] | None = None) -> pd.DataFrame:
    """Measure rows on one core: for images of a few hundred rows, OpenCV's threads cost more than they save.

    ``outcomes`` are known without reading.
    """
    keys = [
        key_of(row, reader) for row in rows
    ]  # before reading, so that a file that changes meanwhile is read again by the next run
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        outcomes = outcomes or [measure_image(row, reader) for row in rows]
    finally:
        cv2.setNumThreads(threads)
    features = {at: outcome.features for at, outcome in enumerate(outcomes) if outcome.features is not None}
    names = dict.fromkeys(itertools.chain.from_iterable(features.values()))  # only some may have a spacing
    columns = {name: _column([one.get(name) for one in features.values()]) for name in names}
    table = pd.DataFrame(columns, index=list(features)).reindex(range(len(rows)))
    found = [json.dumps(outcome.findings) if outcome.findings else "" for outcome in outcomes]
    return pd.concat([pd.DataFrame({"key": keys, "found": found}, dtype="str"), table], axis=1)


def _column(values: list) -> ExtensionArray:
    """Column in which whole numbers stay whole beside missing values."""
    return pd.Series(values, dtype="Int64" if isinstance(values[0], int) else None).array


def _manifest(table: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """Columns of the table for the usable images, overridden by their features that are known."""
    features = measures.drop(columns=list(MEASURES))
    usable = features.notna().any(axis=1)
    features = without(features, ~usable).astype(dict.fromkeys(features.select_dtypes("Int64"), "int64"))
    names = [name for name in map(str, table) if name != "row" and not name.startswith("mask_")]
    told = without(table[names], ~usable)
    columns = pd.DataFrame({str(name): one.array for name, one in features.items()}, index=told.index, copy=False)
    for name in [name for name in columns if name in told and columns[name].isna().any()]:
        columns[name] = columns[name].fillna(told[name])
    kept = told[[name for name in told if name not in columns]]
    return pd.concat([kept, columns], axis=1).reset_index(drop=True)


def _findings(table: pd.DataFrame, found: pd.Series) -> pd.DataFrame:
    odd = found != ""
    rows = iter_records(table.loc[odd, ["image_id", "file", "row"]])
    told = [
        Finding(rule, reason, action, row["image_id"], row["file"], row["row"] if of_row else None)
        for row, text in zip(rows, found[odd], strict=True)
        for rule, reason, action, of_row in json.loads(text)
    ]
    return findings_table([one for one in told if one.rule not in AT_ONCE] + list(_at_once(told)))


def _at_once(told: list[Finding]) -> Iterator[Finding]:
    """One finding for all images of which the same is said, with their number and examples."""
    alike: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for one in told:
        if one.rule in AT_ONCE:
            alike[one.action, one.reason].append(one)
    for (_, reason), (first, *others) in alike.items():
        named = " and ".join(one.file or "" for one in others[:2])
        more = f"; the same holds for {len(others)} more image{'s' * (len(others) > 1)}, such as {named}"
        yield first._replace(reason=reason + more * bool(others))
