"""Estimate the memory that a decoded data set needs, and choose where to cache it."""

import shutil
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import psutil

from seg_pipeline.segmentation.data.geometry import input_shapes
from seg_pipeline.segmentation.settings.training import InputSettings, Task

CacheMode = Literal["auto", "none", "ram", "disk", "device"]

RAM_LIMIT_BYTES = 2**30
"""A cache is kept in memory if it is at most this large and takes at most ``RAM_SHARE`` of the free memory."""
RAM_SHARE = 1 / 4
DEVICE_SHARE = 1 / 4
"""Fraction of a GPU's free memory that ``auto`` uses for samples; the rest is for the network."""
ITEM_BYTES = {"uint8": 1, "uint16": 2, "float32": 4}
CGROUP = Path("/sys/fs/cgroup")
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def bytes_per_pixel(settings: InputSettings, task: Task, num_classes: int) -> tuple[int, int]:
    """Bytes per pixel of a stored image and of its ground truth."""
    return 3 if settings.channels == "rgb" else 1, num_classes if task == "multilabel" else 1


def ram_limit(free_ram: int) -> int:
    """Largest cache in bytes that ``auto`` keeps in memory."""
    return min(RAM_LIMIT_BYTES, int(free_ram * RAM_SHARE))


def pick_mode(mode: CacheMode, needed: int, *, free_ram: int, free_disk: int) -> CacheMode:
    """Choose where to keep ``needed`` bytes: "none", "ram" or "disk". "auto" prefers memory, then disk, if it fits.

    "device" copies its samples from such a cache too.
    """
    if mode not in ("auto", "device"):
        return mode
    if needed <= ram_limit(free_ram):
        return "ram"
    return "disk" if needed <= free_disk else "none"


def estimate_memory(
    table: pd.DataFrame,
    settings: InputSettings,
    *,
    task: Task,
    num_classes: int,
    mode: CacheMode,
    free_ram: int,
    free_disk: int,
    objects: bool = False,
) -> dict[str, Any]:
    """Estimate the size of the decoded data set in bytes, as plain values for JSON.

    ``native`` is the size of the images in their own shape and channels, ``training`` the size as decoded for training;
    both are per pixel dtype. Masks take one byte per pixel, or per pixel and class in a multilabel task, and decoded
    masks twice as much if there are gaps between objects. ``cache`` is the size of the train and val images, and where
    they are kept.

    Args:
        table: height, width, channels and split, one row per image.
        settings: settings of the network's input.
        task: multilabel or multiclass.
        num_classes: number of classes, without background.
        mode: the setting `training.compute.cache`.
        free_ram: free memory in bytes.
        free_disk: free disk space in bytes.
        objects: whether masks are objects.
    """
    channels, mask_bytes = bytes_per_pixel(settings, task, num_classes)
    truth_bytes = mask_bytes * (1 + objects)
    native, stored = table["height"] * table["width"], _pixels(table, settings)
    used = stored[table["split"].isin(["train", "val"])]
    needed = int(used.sum()) * (channels + truth_bytes)
    return {
        "images": len(table),
        "classes": num_classes,
        "native": _sizes(int((native * table["channels"]).sum()), int(native.sum()) * mask_bytes),
        "training_form": _describe_form(settings),
        "training": _sizes(int(stored.sum()) * channels, int(stored.sum()) * truth_bytes),
        "free_ram": free_ram,
        "free_disk": free_disk,
        "cache": {
            "setting": mode,
            "limit": ram_limit(free_ram),
            "needed": needed,
            "kept": (location := pick_mode(mode, needed, free_ram=free_ram, free_disk=free_disk)),
            "advice": _advise(location, needed, free_ram, free_disk),
        },
    }


def _pixels(table: pd.DataFrame, settings: InputSettings) -> pd.Series:
    """Number of pixels of each image at the size at which it is cached."""
    shapes = zip(table["height"], table["width"], strict=True)
    scaled = [input_shapes(int(height), int(width), settings)[0] for height, width in shapes]
    return pd.Series([height * width for height, width in scaled], index=table.index, dtype="int64")


def _describe_form(settings: InputSettings) -> str:
    if settings.resize_mode == "crop":
        return f"scaled by {settings.scale:g}" if settings.scale != 1 else "for crops"
    size = f"{settings.size[0]} x {settings.size[1]}"
    return size if settings.resize_mode == "resize" else f"within {size}"


def _sizes(values: int, masks: int) -> dict[str, dict[str, int]]:
    return {
        dtype: {"images": values * item, "masks": masks, "total": values * item + masks}
        for dtype, item in ITEM_BYTES.items()
    }


def _advise(location: CacheMode, needed: int, free_ram: int, free_disk: int) -> str:
    """Say where the images are kept and, if useful, what to change."""
    size = f"the train and val images take {format_bytes(needed)}"
    free = f"{format_bytes(free_ram)} of memory and {format_bytes(free_disk)} of disk space are free"
    if location == "none":
        fits = needed <= max(ram_limit(free_ram), free_disk)
        remedy = "set training.compute.cache: auto" if fits else "free disk space so that they are decoded only once"
        return f"{size} and are decoded in every epoch; {free}: {remedy}"
    if location == "ram" and needed > free_ram // 2:
        return (
            f"{size} and are kept in memory; {free}: set training.compute.cache: auto or a smaller training.input.size"
        )
    if location == "disk" and needed > free_disk:
        return f"{size} and are packed on disk; {free}: free disk space or set a smaller training.input.size"
    return f"{size} and are {'kept in memory' if location == 'ram' else 'packed once on disk'}; {free}"


def free_ram() -> int:
    """Available memory in bytes, without swap and within the limit of a container (cgroup v2)."""
    free = int(psutil.virtual_memory().available)
    limit, used, statistics = (CGROUP / f"memory.{name}" for name in ("max", "current", "stat"))
    if (
        not all(file.exists() for file in (limit, used, statistics))
        or (limit_text := limit.read_text(encoding="utf-8").strip()) == "max"
    ):
        return free
    stat = dict(line.split() for line in statistics.read_text(encoding="utf-8").splitlines())
    in_use = int(used.read_text(encoding="utf-8")) - int(
        stat.get("inactive_file", 0)
    )  # the kernel drops cached files on demand
    return min(free, max(0, int(limit_text) - in_use))


def free_disk(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    existing = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    return shutil.disk_usage(existing).free


def format_bytes(count: float) -> str:
    """Format a number of bytes: 1536 becomes "1.5 KiB"."""
    for unit in UNITS[:-1]:
        if count < 1024:
            return f"{count:.3g} {unit}" if count < 999.5 else f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.3g} {UNITS[-1]}"
