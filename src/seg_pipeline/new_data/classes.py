"""Find the classes, the task, and the background and unknown values in a sample of the masks."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Literal, TypeVar

import cv2
import numpy as np
from scipy import ndimage

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.class_lists import BACKGROUND, MOST_CLASSES, VOID
from seg_pipeline.new_data.plan import Classes, Value
from seg_pipeline.segmentation.images.decoding import read_image, read_values
from seg_pipeline.segmentation.images.fingerprints import count_objects
from seg_pipeline.segmentation.images.mask_files import MIN_GAP
from seg_pipeline.segmentation.images.masks import binary_mask, pack_colours
from seg_pipeline.segmentation.settings.training import Task

T = TypeVar("T")
MANY = 64
"""With more values than this, levels of a lossy compression are looked for."""
SAMPLED = 200
MOSTLY_COVERED = 0.9
"""If masks cover at least this share of the pixels, the rest is proposed as unlabelled."""
LOSSY = (".jpg", ".jpeg")
PALETTES = (".png", ".gif", ".bmp", ".tif", ".tiff")
CHANNELS = (16, 255), (8, 255), (0, 255)
FLAT = 0.6
"""Least share of the pixels that keep their level in masks that compression changed."""
APART = 16
"""Least distance of two levels in masks that JPEG changed."""
MANY_NUMBERS = 30
"""Fewest different values that number objects if they do not count from 1 in each image."""
MANY_AT_ONCE = 10
"""Fewest of them in the fullest image."""
MOSTLY_SINGLE = 0.95
"""Share of the values that are in one piece if they number objects; annotations have errors."""
HIGHEST = (255, 65535, 2**32 - 1)
INVENTED = re.compile(r"(class|colour|label)_\w+|foreground|object")
"""Names that new-data gives to classes that have none."""


def only(classes: Classes, wanted: str | None, *, indexed: bool, unlabelled: str | None = None) -> Classes:
    """The classes named in ``wanted``, separated by commas; pixels of others are background.

    "class_1=liver" or "1=liver" gives the class of that name or value another name.

    Args:
        unlabelled: what the user wants of pixels without a class.
    """
    if not wanted:
        return classes
    named_too = [one.split("=")[0].strip() for one in wanted.split(",")]
    shown = {f"class_{value}": value for value in classes.background if indexed and str(value) in named_too}
    if shown:  # what looks like background is a class
        black = [value for value in classes.background if value not in shown.values()]
        classes = replace(classes, values={**shown, **classes.values}, background=black)
    known = {**{str(value): name for name, value in classes.values.items()}, **{name: name for name in classes.values}}
    pairs = [tuple(part.strip() for part in one.split("=", 1)) for one in wanted.split(",")]
    if unknown := [one[0] for one in pairs if one[0] not in known]:
        raise ValueError(f"--classes names {', '.join(unknown)}, but the classes are {', '.join(classes.values)}")
    classes = _renamed(classes, {known[one[0]]: one[-1] for one in pairs if one[1:]})
    names = [one[1] if one[1:] else known[one[0]] for one in pairs]
    others = [value for name, value in classes.values.items() if name not in names] if indexed else []
    task: Task = "multilabel" if len(names) == 1 else classes.task
    left_out = not unlabelled and len(names) < len(classes.values)
    rest: Literal["background", "ignore"] = "background" if left_out or len(names) == 1 else classes.unlabelled_pixels
    kept = {name: classes.values[name] for name in names}
    return replace(classes, values=kept, task=task, unlabelled_pixels=rest, background=classes.background + others)


def named(classes: Classes, ask: Asker) -> Classes:
    """The classes with the names that the user gives, if the data names none of them."""
    invented = list(classes.values)
    if ask.given.get("classes") or not all(map(INVENTED.fullmatch, invented)):
        return classes
    if len(invented) == 1:
        if "class_name" in ask.asked:
            return classes
        name = ask.words("class_name", "Nothing in the folder names the class. What do the masks show?", invented[0])
        return _renamed(classes, {invented[0]: name})
    shown = ", ".join(str(value) for value in classes.values.values())
    question = f"Nothing in the folder names the classes {shown}. Their names, in this order, separated by commas?"
    while True:
        names = [one.strip() for one in ask.words("class_names", question, ", ".join(invented)).split(",")]
        if len(set(names)) == len(invented) and all(names):
            return _renamed(classes, dict(zip(invented, names, strict=True)))
        question = f"That gives {len(set(names))} different names; {len(invented)} are needed. The names?"


def _renamed(classes: Classes, names: dict[str, str]) -> Classes:
    return replace(classes, values={names.get(name, name): value for name, value in classes.values.items()})


def evenly(items: list[T], number: int = SAMPLED) -> list[T]:
    """At most ``number`` evenly spaced items, including the first and the last."""
    return [items[at] for at in np.unique(np.linspace(0, len(items) - 1, min(number, len(items))).astype(int))]


def grey_values(path: Path) -> np.ndarray:
    """Pixels of a mask file; (H, W) also if equal channels store grey."""
    values = read_values(path)
    return values[..., 0] if values.ndim == 3 and (values == values[..., :1]).all() else values


def read_some(paths: list[Path], number: int = SAMPLED) -> dict[Path, np.ndarray]:
    """``grey_values`` of a sample of mask files, without damaged ones, which data_processing reports.

    Raises:
        ValueError: most of them cannot be read.
    """
    found: dict[Path, np.ndarray] = {}
    faults = []
    for path in evenly(paths, number):
        try:
            found[path] = grey_values(path)
        except ValueError as error:
            faults.append(error)
    if len(faults) >= max(len(found), 1):
        raise faults[0]
    return found


def grey_mask(path: Path) -> np.ndarray:
    """Bool mask (H, W) of a binary mask file, white from 128 on if JPEG changed it."""
    values = grey_values(path)
    return values > 127 if path.suffix.lower() in LOSSY else binary_mask(values)


def as_declared(value: int, colours: bool) -> Value:
    """A value as it is written in YAML: a whole number, or a colour as [red, green, blue]."""
    return [value >> 16, value >> 8 & 255, value & 255] if colours else value


def _levels(masks: list[np.ndarray], *, colours: bool) -> list[int]:
    """Values of areas that are flat over 3 x 3 pixels, ``APART`` from each other, the most frequent ones first."""
    counts: Counter[int] = Counter()
    for values in masks:
        same = cv2.erode(values, np.ones((3, 3), np.uint8)) == cv2.dilate(values, np.ones((3, 3), np.uint8))
        flat = same.all(axis=2) if colours and same.ndim == 3 else same
        found, numbers = np.unique((pack_colours(values) if colours else values)[flat], return_counts=True)
        counts.update(dict(zip(found.tolist(), numbers.tolist(), strict=True)))
    levels: list[int] = []
    for value, _ in counts.most_common():
        if all(_distance(value, one, colours) >= APART for one in levels):
            levels.append(value)
    return sorted(levels)


def _distance(one: int, other: int, colours: bool) -> int:
    return max(abs((one >> by & most) - (other >> by & most)) for by, most in (CHANNELS if colours else ((0, -1),)))


def values_of(paths: list[Path], known: dict[str, str], ask: Asker) -> tuple[list[int], bool, bool]:
    """Values that occur in a sample of masks, whether they are colours, and whether compression changed them.

    Raises:
        ValueError: the values are too many, or too close after JPEG compression.
    """
    some = read_some(paths)
    paths, read = list(some), list(some.values())
    if _palettes_differ(paths, read):
        ask.decide("the palettes of the masks list their colours in different orders: the colours are the classes")
        read = [read_image(path) for path in paths]
    colours = any(values.ndim == 3 for values in read)
    packed = [pack_colours(values) if colours else values for values in read]
    found: list[int] = sorted({int(value) for values in packed for value in np.unique(values)})
    listed = sum(_key(value, colours) in known for value in found)
    lossy = any(path.suffix.lower() in LOSSY for path in paths)
    bytes_ = colours or (min(found) >= 0 and max(found) < 256)
    levels = _levels([values.astype(np.uint8) for values in read], colours=colours) if bytes_ else []
    gaps = [_distance(*pair, colours) for pair in combinations(levels, 2)]
    smoothed = len(gaps) > 0 and min(gaps) >= MIN_GAP and len(found) > 2 * len(levels) and len(found) > 4
    if not lossy and (listed >= len(found) / 2 or (len(found) <= MANY and not smoothed)):
        return found, colours, False
    if lossy and len(found) > len(levels) and _distance(found[0], found[-1], colours) < APART:
        raise ValueError(
            f"{paths[0]}: the masks are JPEG files and hold the values {found[0]} to {found[-1]}, which are too close "
            "to each other: JPEG has changed them, probably class ids. Export the masks again as PNG"
        )
    exact = np.mean([np.isin(values, levels).mean() for values in packed])
    if 1 < len(levels) < len(found) and len(levels) <= MANY and exact > FLAT:
        what = "JPEG compression has changed the masks" if lossy else "the masks look compressed or smoothed"
        shown = [as_declared(one, colours) for one in levels]
        ask.decide(f"{what}: {len(found)} values are read as the nearest of {shown} (`nearest_value`)")
        return levels, colours, True
    if len(found) <= (MANY if lossy else MOST_CLASSES):
        return found, colours, False
    raise ValueError(
        f"{paths[0].parent}: the masks hold more than {MANY} values. If they were saved with lossy compression, export "
        "them again as PNG. If each value is an object, write one file per object (see `conf/instances/`). If each is "
        "a class, list them in a classes.csv (class_id,class_name)"
    )


def _palettes_differ(paths: list[Path], read: list[np.ndarray]) -> bool:
    """Whether a number stands for different colours in the palettes of several masks."""
    colour_of: dict[int, int] = {}
    for path, values in zip(paths, read, strict=True):
        if path.suffix.lower() not in PALETTES or values.ndim > 2 or values.dtype != np.uint8:
            continue
        colours = read_image(path)
        if colours.ndim < 3:
            continue
        numbers, first = np.unique(values, return_index=True)
        for number, colour in zip(numbers.tolist(), pack_colours(colours).ravel()[first].tolist(), strict=True):
            if colour_of.setdefault(number, colour) != colour:
                return True
    return False


def number_objects(masks: list[np.ndarray]) -> bool:
    """Whether the values number objects, each in one connected piece.

    They count 1, 2, 3, ... up to a number that differs from image to image, or there are more than classes have, in all
    and in one image, as where objects keep their number through a film.
    """
    shown = [(values, found) for values in masks if values.ndim == 2 and (found := np.unique(values[values > 0])).size]
    counts = {found.size for _, found in shown}
    counted = len(counts) >= 3 and max(counts) >= 5 and all(found[-1] == found.size for _, found in shown)
    different = len({number for _, found in shown for number in found.tolist()})
    if not counted and (different < MANY_NUMBERS or max(counts) < MANY_AT_ONCE):
        return False
    single = [
        count_objects(values[place] == number) == 1
        for values, _ in shown[:10]
        for number, place in enumerate(ndimage.find_objects(values.astype(np.int32)), start=1)
        if place is not None
    ]
    return float(np.mean(single)) >= MOSTLY_SINGLE


def from_pixels(paths: list[Path], known: dict[str, str], ask: Asker, *, alone: str) -> Classes:
    """Classes of masks whose pixel values or colours are the classes, one per pixel.

    Args:
        known: names by value.
        alone: name of the class if the masks hold a single value.
    """
    if not known and number_objects(list(read_some(paths, 40).values())):
        options = {"objects": "numbers of the objects of one class", "classes": "classes"}
        question = (
            "In each mask every value is one connected piece, and the values differ from image to image, as if they "
            "numbered objects. What are they?"
        )
        if ask.choose("labels", question, options, "objects") == "objects":
            ask.decide(f"the values number the objects of each image: one class, {alone} (else --labels classes)")
            return Classes({alone: 1}, "multilabel", objects=True)
    values, colours, lossy = values_of(paths, known, ask)
    named = {value: known[key] for value in values if (key := _key(value, colours)) in known}
    zero = {0} if 0 in values else {value for value in values if value < 0}
    black = [value for value in values if value in zero and named.get(value, "bg").lower() in BACKGROUND]
    void = [value for value in values if value not in zero and _is_void(value, values, named, colours)]
    wanted = [value for value in values if value not in (*black, *void)]
    if not wanted:
        raise ValueError(f"{paths[0].parent}: the masks hold only the values {values}; is this the right folder?")
    names = {value: named.get(value, alone if len(wanted) == 1 else _name(value, colours)) for value in wanted}
    names = {
        value: name if list(names.values()).count(name) == 1 else f"{name} {value}" for value, name in names.items()
    }
    classes = {names[value]: as_declared(value, colours) for value in wanted}
    shown = ", ".join(f"{value} {name}" for name, value in list(classes.items())[:20])
    more = f" and {len(classes) - 20} more" if classes.keys() - list(classes)[:20] else ""
    outside = [value for value in (wanted[-1:] if black else wanted) if _surrounds(paths, value, colours)]
    if outside and not black and len(classes) > 1:
        others = ",".join(name for value, name in names.items() if value != outside[0])
        ask.decide(f"{names[outside[0]]} covers most pixels and most of the images' edges: if it is the background, "
                   f"which would raise the mean score, leave it out with --classes {others}")  # fmt: skip
    elif outside and black and not colours:
        ask.decide(f"{outside[0]} covers most pixels and most of the images' edges: if {black[0]} is an object and not "
                   "the background, add --classes 0=NAME with the other classes")  # fmt: skip
    ask.decide(f"classes: {shown}{more} ({'colours' if colours else 'pixel values'} of {len(evenly(paths))} masks)")
    rest = {"background": black, "unknown (ignored)": void}
    if told := [f"{[as_declared(one, colours) for one in some]} {what}" for what, some in rest.items() if some]:
        ask.decide(f"not a class: {', '.join(told)}")
    return Classes(
        classes,
        "multilabel" if len(classes) == 1 else "multiclass",
        "background" if black or len(classes) == 1 else "ignore",
        [as_declared(value, colours) for value in black],
        [as_declared(value, colours) for value in void],
        lossy,
    )


def _surrounds(paths: list[Path], value: int, colours: bool) -> bool:
    """Whether a value covers most of the masks and of their edges, as background does."""
    masks = [(pack_colours(read) if colours else read) == value for read in read_some(paths, 40).values()]
    edges = [np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]) for mask in masks]
    return bool(np.mean([mask.mean() for mask in masks]) > 0.5 and np.mean([edge.mean() for edge in edges]) > 0.8)


def _key(value: int, colours: bool) -> str:
    return ",".join(map(str, as_declared(value, True))) if colours else str(value)  # type: ignore[arg-type]


def _is_void(value: int, values: list[int], named: dict[int, str], colours: bool) -> bool:
    """Whether a value means unknown: by its name, absence from a table of classes or sign, or 255 beside small ids."""
    if value in named:
        return named[value].lower() in VOID
    if not colours and value < 0:
        return True
    small = [one for one in values if 0 < one < 255]
    return bool(named) or (not colours and value in HIGHEST and bool(small) and max(small) < 100)


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
        if len({mask.shape for mask in masks}) > 1:  # data_processing reports it
            continue
        depth = np.sum(masks, axis=0, dtype=np.int64)
        shared += int((depth * (depth - 1) // 2).sum())
        covered += int(np.count_nonzero(depth))
        total += masks[0].size
        number += 1
    return shared, covered / max(1, total), number


def task_of(
    classes: dict[str, Value], stacks: Iterable[list[np.ndarray]], ask: Asker, *, files: Iterable[Path] = ()
) -> Classes:
    """Choose the task, and the meaning of pixels without a class, from masks that may overlap.

    ``files``: the mask files, if there are any; JPEG among them is read by its nearest value.
    """
    lossy = any(path.suffix.lower() in LOSSY for path in files)
    if lossy:
        ask.decide("JPEG compression has changed the masks: white from 128 on (`nearest_value`)")
    shared, covered, number = overlap_of(stacks)
    if len(classes) == 1:
        return Classes(classes, "multilabel", nearest=lossy)
    task = "multilabel" if shared else "multiclass"
    options = {"multilabel": "yes, classes may overlap", "multiclass": "no, one class per pixel"}
    question = f"May a pixel belong to two classes? In {number} sampled images, classes share {shared} pixels."
    task = ask.choose("task", question, options, task)
    ask.decide(f"task: {task}; classes share {shared} pixels in {number} sampled images")
    void = task == "multiclass" and covered >= MOSTLY_COVERED
    options = {"background": "nothing of interest", "ignore": "unknown; they count neither in training nor in scores"}
    question = f"The masks cover {covered:.0%} of the pixels. What are the other pixels?"
    rest = ask.choose("unlabelled_pixels", question, options, "ignore" if void else "background")
    ask.decide(f"pixels without a class: {rest}; masks cover {covered:.0%} of the pixels")
    return Classes(classes, "multilabel" if task == "multilabel" else "multiclass",
                   "ignore" if rest == "ignore" else "background", nearest=lossy)  # fmt: skip
