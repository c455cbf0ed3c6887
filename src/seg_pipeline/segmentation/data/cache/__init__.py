"""Cache of decoded samples: flat arrays filled once, in memory or memory-mapped from a folder."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.data.cache import disk
from seg_pipeline.segmentation.data.cache.pixels import (
    Allocate,
    PixelCache,
    SampleFormat,
    allocate_arrays,
    cache_key,
    sample_keys,
)
from seg_pipeline.segmentation.data.memory import CacheMode, format_bytes, free_disk, free_ram, pick_mode
from seg_pipeline.segmentation.data.sample_decoding import Decoder
from seg_pipeline.segmentation.parallel.ordered_map import map_in_threads
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.settings.training import InputSettings, Task

__all__ = ["PixelCache", "open_cache"]

log = logging.getLogger(__name__)


def open_cache(
    manifest: pd.DataFrame,
    settings: InputSettings,
    *,
    task: Task,
    background: bool,
    objects: bool = False,
    mode: CacheMode,
    folder: Path | None,
    num_workers: int = 1,
    shared: bool = False,
) -> PixelCache | None:
    """Open the cache of all rows' decoded samples; decode them first if ``folder`` does not have it yet.

    The cache is identified by the images' contents and the settings, not by the rows' order or names. Data sets of
    subsets of the manifest can share it. The other arguments are those of the data sets.

    Args:
        manifest: one row per image.
        mode: where to cache; with "auto", ``pick_mode`` decides by size.
        folder: folder of the caches on disk, which keeps the most recently used ones. A damaged cache is rebuilt,
            with a warning.
        num_workers: number of decoding threads.
        shared: whether several processes read the cache. It is then memory-mapped from ``folder``, so that the system
            keeps a single copy, instead of one per process.

    Returns:
        The cache, or None if nothing is cached.

    Raises:
        ValueError: an image cannot be read or has changed, or the disk is full.
    """
    if manifest.empty:
        return None
    decoder = Decoder(manifest, settings, task=task, background=background, objects=objects)
    sample_format = SampleFormat(settings, task, background, len(decoder.names), objects)
    keys, rows = np.unique(sample_keys(manifest), return_index=True)
    key = cache_key(sample_format, keys)
    rows = np.sort(rows)  # in the manifest's order, as validation and prediction read them
    shapes = np.array([decoder.shape(row) for row in rows], dtype=np.int32)
    needed = int(shapes.astype(np.int64).prod(axis=1).sum()) * sum(sample_format.depths)
    location = _choose(mode, needed, folder, key, shared=shared)
    if location == "none":
        return None

    def fill(allocate: Allocate) -> PixelCache:
        cache = PixelCache(
            sample_format, allocate_arrays(sample_format, sample_keys(manifest.iloc[rows]), shapes, allocate)
        )
        _decode(decoder, rows, cache, num_workers)
        return cache

    if location == "ram":
        return fill(lambda _, shape, dtype: np.empty(shape, dtype)).make_read_only()
    if folder is None:
        raise ValueError("the pixel cache on disk needs a folder; name one, or set `cache` to ram or none")
    return PixelCache(sample_format, disk.find_or_write(folder, key, needed, lambda allocate: fill(allocate).arrays))


def _choose(mode: CacheMode, needed: int, folder: Path | None, key: str, *, shared: bool) -> CacheMode:
    ram, disk_space = free_ram(), free_disk(folder) if folder else 0
    ready = folder is not None and (folder / key).is_dir()
    free_disk_space = max(disk_space, needed) if ready else disk_space
    location = pick_mode(mode, needed, free_ram=ram, free_disk=free_disk_space)
    if location == "ram" and shared and needed <= free_disk_space:
        location = "disk"
    where = {"none": "decoded on every access", "ram": "kept in memory", "disk": f"kept in {folder}"}[location]
    free = f"; free: {format_bytes(ram)} of memory" + (
        f" and {format_bytes(disk_space)} of disk space" if folder else ""
    )
    # Free space changes constantly; it is logged only where it matters, so that all trials log the same line.
    note = free if location == "none" else ""
    log.info("pixel cache: %s of decoded images are %s (cache: %s%s)", format_bytes(needed), where, mode, note)
    return location


def _decode(decoder: Decoder, rows: np.ndarray, cache: PixelCache, num_workers: int) -> None:
    # Threads write to separate parts of the arrays; decoding releases the interpreter lock.
    put = map_in_threads(
        lambda task: cache.put(task[0], decoder, task[1]),
        enumerate(rows.tolist()),
        workers=num_workers if num_workers > 1 else 0,
        ahead=8 * num_workers,  # images differ in size
    )
    for _ in progress_bar(put, total=len(rows), title="decoding images", unit="images"):
        pass
