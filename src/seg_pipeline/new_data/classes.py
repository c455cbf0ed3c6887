"""Find the classes, the task, and the background and unknown values in a sample of the masks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.plan import Classes, Value
from seg_pipeline.segmentation.images.decoding import read_values
from seg_pipeline.segmentation.images.masks import pack_colours

T = TypeVar("T")
MOST_CLASSES = 64
SAMPLED = 200
MOSTLY_COVERED = 0.9
"""If masks cover at least this share of the pixels, the rest is proposed as unlabelled."""


def evenly(items: list[T], number: int = SAMPLED) -> list[T]:
    """At most ``number`` evenly spaced items, including the first and the last."""
    return [items[at] for at in np.unique(np.linspace(0, len(items) - 1, min(number, len(items))).astype(int))]


def values_of(paths: list[Path]) -> tuple[list[int], bool]:
    """Pixel values that occur in a sample of mask files, and whether they are colours (see ``pack_colours``).

    Raises:
        ValueError: there are more than ``MOST_CLASSES`` values.
    """
    read = [read_values(path) for path in evenly(paths)]
    colours = any(values.ndim == 3 for values in read)
    found: set[int] = set()
    for values in read:
        found |= set(np.unique(pack_colours(values) if colours else values).tolist())
        if len(found) > MOST_CLASSES:
            raise ValueError(
                f"{paths[0].parent}: the masks hold more than {MOST_CLASSES} values. If they are JPEG files, export "
                "them again as PNG. If each value is an object, write one file per object (see `conf/instances/`)"
            )
    return sorted(found), colours


def as_declared(value: int, colours: bool) -> Value:
    """A value as it is written in YAML: a whole number, or a colour as [red, green, blue]."""
    return [value >> 16, value >> 8 & 255, value & 255] if colours else value


def class_names(tables: Iterable[pd.DataFrame]) -> dict[str, str]:
    """Class names by value, from the first table that lists classes; colours as "r,g,b"."""
    for table in tables:
        columns = {str(name).lower().strip(): table[name] for name in table}
        names = next((columns[one] for one in ("name", "class_name", "class", "label") if one in columns), None)
        if names is None or not names.is_unique or len(table) > MOST_CLASSES or names.str.isdigit().all():
            continue
        if {"r", "g", "b"} <= columns.keys():
            keys = columns["r"].str.strip() + "," + columns["g"].str.strip() + "," + columns["b"].str.strip()
        else:
            numbers = [one for one in columns.values() if one.is_unique and one.str.isdigit().all()]
            keys = numbers[0] if numbers else names
        return dict(zip(keys, names.str.strip(), strict=True))
    return {}


def from_pixels(paths: list[Path], known: dict[str, str], ask: Asker, *, alone: str) -> Classes:
    """Classes of masks whose pixel values or colours are the classes, one per pixel.

    Args:
        known: names by value.
        alone: name of the class if the masks hold a single value.
    """
    values, colours = values_of(paths)
    named = {value: known[key] for value in values if (key := _key(value, colours)) in known}
    black = [value for value in values if value == 0 and _is_background(named.get(value))]
    void = [value for value in values if value and _is_void(value, values, named, colours)]
    wanted = [value for value in values if value not in (*black, *void)]
    if not wanted:
        raise ValueError(f"{paths[0].parent}: the masks hold only the values {values}; is this the right folder?")
    names = {value: named.get(value, alone if len(wanted) == 1 else _name(value, colours)) for value in wanted}
    classes = {names[value]: as_declared(value, colours) for value in wanted}
    shown = ", ".join(f"{value} {name}" for name, value in classes.items())
    ask.decide(f"classes: {shown} ({'colours' if colours else 'pixel values'} of {len(evenly(paths))} masks)")
    if black or void:
        ask.decide(f"not a class: {[as_declared(one, colours) for one in black]} background, "
                   f"{[as_declared(one, colours) for one in void]} unknown (ignored)")  # fmt: skip
    return Classes(
        classes,
        "multilabel" if len(classes) == 1 else "multiclass",
        "background" if black or len(classes) == 1 else "ignore",
        [as_declared(value, colours) for value in black],
        [as_declared(value, colours) for value in void],
    )


def _key(value: int, colours: bool) -> str:
    return ",".join(map(str, as_declared(value, True))) if colours else str(value)  # type: ignore[arg-type]


def _is_background(name: str | None) -> bool:
    return name is None or name.lower() in {"background", "bg", "none", "unlabelled", "unlabeled"}


def _is_void(value: int, values: list[int], named: dict[int, str], colours: bool) -> bool:
    """Whether a value means unknown: by its name, by its absence from a table of classes, or 255 beside small ids."""
    if value in named:
        return named[value].lower() in {"void", "ignore", "unknown", "unlabelled", "unlabeled"}
    small = [one for one in values if 0 < one < 255]
    return bool(named) or (not colours and value == 255 and bool(small) and max(small) < 100)


def _name(value: int, colours: bool) -> str:
    return f"colour_{value:06x}" if colours else f"class_{value}"


def text_name(value: str, known: dict[str, str]) -> str:
    """Name of the class that a table or a file name calls ``value``."""
    name = known.get(value) or known.get(str(int(value)) if value.isdigit() else value) or value
    return f"class_{name}" if re.fullmatch(r"\d+", name) else name


def overlap_of(stacks: Iterable[list[np.ndarray]]) -> tuple[int, float, int]:
    """Shared pixels, covered share and number of images, of lists of bool masks (H, W), one list per image."""
    shared, covered, total, number = 0, 0, 0, 0
    for masks in stacks:
        shared += sum(int((one & other).sum()) for one, other in combinations(masks, 2))
        covered += int(np.any(masks, axis=0).sum())
        total += masks[0].size
        number += 1
    return shared, covered / max(1, total), number


def task_of(classes: dict[str, Value], stacks: Iterable[list[np.ndarray]], ask: Asker) -> Classes:
    """Choose the task, and the meaning of pixels without a class, from masks that may overlap."""
    shared, covered, number = overlap_of(stacks)
    if len(classes) == 1:
        return Classes(classes, "multilabel")
    task = "multilabel" if shared else "multiclass"
    options = {"multilabel": "classes may overlap", "multiclass": "one class per pixel"}
    task = ask.choose("task", "Do classes overlap?", options, task)
    ask.decide(f"task: {task}; classes share {shared} pixels in {number} sampled images")
    void = task == "multiclass" and covered >= MOSTLY_COVERED
    options = {"background": "background", "ignore": "unknown; ignored in training and scores"}
    rest = ask.choose(
        "unlabelled_pixels", "What are pixels that no mask covers?", options, "ignore" if void else "background"
    )
    ask.decide(f"pixels without a class: {rest}; masks cover {covered:.0%} of the pixels")
    return Classes(classes, "multilabel" if task == "multilabel" else "multiclass",
                   "ignore" if rest == "ignore" else "background")  # fmt: skip
