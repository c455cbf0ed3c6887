"""Memory that a data set takes once it is decoded, and the cache setting that follows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

CACHE_LIMIT_BYTES = 2**30
ITEM_BYTES = {"uint8": 1, "uint16": 2, "float32": 4}
CGROUP = Path("/sys/fs/cgroup")
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def sample_bytes(size: tuple[int, int], num_classes: int) -> int:
    """Of one training sample: 3 channels and a mask a class, a byte a pixel each."""
    return size[0] * size[1] * (3 + num_classes)


def is_cached(num_images: int, *, size: tuple[int, int], num_classes: int, cache: bool | None) -> bool:
    """Whether a data set of training samples is kept in memory: as ``cache`` says; None: where it takes little."""
    return num_images * sample_bytes(size, num_classes) < CACHE_LIMIT_BYTES if cache is None else cache


def estimate_memory(
    table: pd.DataFrame, *, num_classes: int, size: tuple[int, int], cache: bool | None, free_ram: int, free_disk: int
) -> dict[str, Any]:
    """Bytes of the decoded data set, plain numbers and texts for JSON.

    Native: images at their own size, with their own channels. Training: ``size`` (height, width) and 3
    channels, as the network takes them. Both for each dtype of the pixels; a mask takes a byte a pixel and
    class. Cache: as the train and the val data set decide, each on its own (``is_cached``).

    Args:
        table: height, width, channels and split, a row an image.
        num_classes: masks an image.
        size: of the training samples.
        cache: the setting of the training; None: decided by the size.
        free_ram: bytes.
        free_disk: bytes.
    """
    pixels = table["height"] * table["width"]
    counts = {name: int((table["split"] == name).sum()) for name in ("train", "val")}
    training = len(table) * size[0] * size[1]
    return {
        "images": len(table),
        "classes": num_classes,
        "native": _sizes(int((pixels * table["channels"]).sum()), int(pixels.sum()) * num_classes),
        "training_size": list(size),
        "training": _sizes(training * 3, training * num_classes),
        "free_ram": free_ram,
        "free_disk": free_disk,
        "cache": {
            "setting": cache,
            "limit": CACHE_LIMIT_BYTES,
            **_cache(counts, size=size, num_classes=num_classes, cache=cache, free_ram=free_ram),
        },
    }


def _sizes(values: int, masks: int) -> dict[str, dict[str, int]]:
    return {
        dtype: {"images": values * item, "masks": masks, "total": values * item + masks}
        for dtype, item in ITEM_BYTES.items()
    }


def _cache(
    counts: dict[str, int], *, size: tuple[int, int], num_classes: int, cache: bool | None, free_ram: int
) -> dict[str, Any]:
    needed = {name: count * sample_bytes(size, num_classes) for name, count in counts.items()}
    kept = {name: is_cached(count, size=size, num_classes=num_classes, cache=cache) for name, count in counts.items()}
    return {"needed": needed, "kept": kept, "advice": _advise(needed, kept, free_ram)}


def _advise(needed: dict[str, int], kept: dict[str, bool], free_ram: int) -> str:
    held = sum(count for name, count in needed.items() if kept[name])
    says = ", ".join(
        f"{name} ({readable(count)}) is {'kept' if kept[name] else 'not kept'} in memory"
        for name, count in needed.items()
    )
    if held > free_ram // 2:
        return f"{says}; free are {readable(free_ram)}: set training.loader.cache: false or a smaller size"
    if not all(kept.values()) and sum(needed.values()) < free_ram // 2:
        return f"{says}; free are {readable(free_ram)}: with training.loader.cache: true each image is decoded once"
    return f"{says}; the setting of training.loader.cache suits this machine"


def free_ram() -> int:
    """Bytes that can be had without swapping, no more than a container's limit (cgroup v2) leaves."""
    free = int(psutil.virtual_memory().available)
    limit, used, parts = (CGROUP / f"memory.{name}" for name in ("max", "current", "stat"))
    if not all(file.exists() for file in (limit, used, parts)) or (most := limit.read_text().strip()) == "max":
        return free
    stat = dict(line.split() for line in parts.read_text().splitlines())
    held = int(used.read_text()) - int(stat.get("inactive_file", 0))  # cached files make room when asked to
    return min(free, max(0, int(most) - held))


def free_disk() -> int:
    """Bytes free on the disk of the present folder."""
    return shutil.disk_usage(Path.cwd()).free


def readable(count: float) -> str:
    """1536 -> "1.5 KiB"."""
    for unit in UNITS[:-1]:
        if count < 1024:
            return f"{count:.3g} {unit}" if count < 999.5 else f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.3g} {UNITS[-1]}"
