"""What people drew, as the annotation table of COCO."""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.formats.coco import (
    COLUMNS,
    InvalidAnnotations,
    Orientation,
    Row,
    compare_size,
    refuse_useless,
    with_repairs,
)
from seg_pipeline.segmentation.formats.label_tools.shapes import Item, Size
from seg_pipeline.segmentation.formats.named_files import Named, find_files, image_id
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS

Annotators = Literal["refuse", "latest", "vote"]
EmptyImages = Literal["auto", "negative", "leave_out"]


@dataclass(frozen=True, kw_only=True)
class ReadRules:
    """What to do where people's work leaves a choice."""

    annotators: Annotators = "refuse"
    """Several people annotated an image: stop, take the latest, or the pixels that more than half of them marked."""
    empty_images: EmptyImages = "auto"
    """An image without a shape shows no class ("negative") or was never looked at ("leave_out"). auto: it is a negative
    if the tool says that someone saved it."""
    invalid_annotations: InvalidAnnotations = "drop_image"
    """As in ``read_coco``."""
    orientation: Orientation = "apply"
    """As in ``read_coco``."""


def annotation_table(items: Iterable[Item], path: Path, images: Path, rules: ReadRules) -> pd.DataFrame:
    """One row per shape with a mask, and one per image that shows no class or cannot be used; columns ``COLUMNS``.

    If several people annotated an image, its first row has their agreement in ``compared``; see ``compared``.

    Raises:
        ValueError: several people annotated an image and ``rules`` does not say whose work counts; nothing is usable.
    """
    items = list(items)
    beside = path if path.is_dir() else path.parent
    files = find_files({item.file for item in items}, images, beside=beside)
    by_image = _by_image(items, files, images)
    _refuse_several(path, by_image, rules)
    ignored: Counter[str] = Counter()
    rows: list[Row] = []
    agreement: dict[str, str] = {}
    for name, of_image in by_image.items():
        file = files[of_image[0].file].file
        rows += _rows(name, of_image, images / file if file else None, rules, ignored, agreement)
    if changed := [
        one.file for one in items if one.num_bytes and _differs(images, files[one.file].file, one.num_bytes)
    ]:
        told = f"{len(changed)} image files have another number of bytes than when they were annotated, such as "
        rows.append(Row(None, problem=f"{path.name}: {told}{changed[0]}: if they were resized, their masks are wrong"))
    if ignored:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(ignored.items()))
        rows.append(Row(None, problem=f"{path.name}: shapes that are no masks are left out: {kinds}"))
    refuse_useless(path, rows)
    table = pd.DataFrame(rows, columns=COLUMNS, dtype="str")
    if agreement:
        table["compared"] = table["image_id"].map(agreement).mask(table["image_id"].duplicated()).astype("str")
    return with_repairs(table, files, path)


def _differs(images: Path, file: str | None, num_bytes: int) -> bool:
    return file is not None and (images / file).stat().st_size != num_bytes


def several_times(path: Path, items: Iterable[Item], images: Path) -> str:
    """How many images were annotated more than once, such as which; "" if none was."""
    items = list(items)
    files = find_files({item.file for item in items}, images, beside=path if path.is_dir() else path.parent)
    return _told(path, _several(_by_image(items, files, images)))


def _by_image(items: list[Item], files: Mapping[str, Named], images: Path) -> dict[str, list[Item]]:
    by_image: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_image[image_id(item.file, files, images, images)].append(item)
    return by_image


def _several(by_image: Mapping[str, list[Item]]) -> dict[str, list[Item]]:
    return {name: work for name, items in by_image.items() if len(work := _work(items)) > 1}


def _told(path: Path, several: Mapping[str, list[Item]]) -> str:
    for name, work in several.items():
        people = ", ".join(sorted({one.annotator or "unnamed" for one in work}))
        return (
            f"{path}: {len(several)} images were annotated several times, such as {name} ({len(work)} times: {people})"
        )
    return ""


def _refuse_several(path: Path, by_image: Mapping[str, list[Item]], rules: ReadRules) -> None:
    several = _several(by_image)
    if several and rules.annotators == "refuse":
        raise ValueError(
            f"{_told(path, several)}; set `annotators` in the catalog: latest takes the last one, vote the pixels that "
            "more than half of them marked"
        )
    if rules.annotators == "latest" and not all(one.when for work in several.values() for one in work):
        raise ValueError(
            f"{_told(path, several)}; `annotators: latest` needs their dates, which the export lacks; use vote"
        )


def _work(items: list[Item]) -> list[Item]:
    """Annotations that someone submitted."""
    return [one for one in items if one.state in ("saved", "listed")]


def _rows(
    name: str,
    items: list[Item],
    file: Path | None,
    rules: ReadRules,
    ignored: Counter[str],
    agreement: dict[str, str],
) -> Iterator[Row]:
    work = _work(items)
    if not work:
        cancelled = any(one.state == "cancelled" for one in items)
        reason = "nobody has annotated it, so what it shows is unknown"
        reason = "its task was cancelled or skipped" if cancelled else reason
        yield Row(name, problem=f"{name}: {reason}; it is left out")
        return
    if rules.annotators == "latest":
        work.sort(key=lambda one: one.when, reverse=True)
    entry = next(({"height": one.size[0], "width": one.size[1]} for one in work if one.size), {})
    size, problem = compare_size(entry, file, rules.orientation)
    if problem or size is None:
        yield Row(name, problem=f"{name}: {problem or 'its size is unknown, as it has no readable file'}")
        return
    passed_over: list[Counter[str]] = [Counter() for _ in work]
    drawn = [list(_drawn(name, one, size, number)) for one, number in zip(work, passed_over, strict=True)]
    if len(work) > 1:
        agreement[name] = compared([_by_class(one) for one in drawn], size)
    if rules.annotators == "latest":
        work, drawn, passed_over = work[:1], drawn[:1], passed_over[:1]
    for number in passed_over:
        ignored.update(number)
    rows = [row for of_one in drawn for row, _ in of_one if row.problem]
    if rules.invalid_annotations == "drop_annotation":
        rows = [row._replace(image_id=None) for row in rows]
    yield from rows
    masks = _voted(drawn) if len(work) > 1 else [(str(row.class_), mask) for row, mask in drawn[0] if mask is not None]
    yield from (Row(name, label, encode_rle(mask, order="C")) for label, mask in masks)
    if masks or rows:
        return
    if any(one.shapes for one in work) and len(work) == 1:
        yield Row(name, problem=f"{name}: it has shapes, but none that is a mask; it is left out")
    elif rules.empty_images == "negative" or (rules.empty_images == "auto" and all(o.state == "saved" for o in work)):
        yield Row(name, NO_CLASS)
    else:
        unknown = "it has no shape, and whether anyone looked at it is unknown; if images without shapes show no class"
        yield Row(name, problem=f"{name}: {unknown}, set `empty_images: negative` in the catalog")


def _drawn(
    name: str, item: Item, size: tuple[int, int], ignored: Counter[str]
) -> Iterator[tuple[Row, np.ndarray | None]]:
    """Rows of the shapes that are masks: with the mask, or with a problem."""
    for number, shape in enumerate(item.shapes, start=1):
        label = "" if shape.label is None else str(shape.label).strip()
        row = Row(name, label or None, annotation=f"#{number}")
        if shape.draw is None:
            ignored[shape.kind] += 1
            continue
        if not label:
            yield row._replace(problem=f"shape {number} of {name} ({shape.kind}) has no label"), None
            continue
        try:
            yield row, shape.draw(size)
        except Exception as error:  # noqa: BLE001  parts of a foreign file that are missing, or of another kind
            told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            yield row._replace(problem=f"shape {number} of {name} ({label}): {told:.300}"), None


def compared(people: list[dict[str, np.ndarray]], size: Size) -> str:
    """Agreement of the masks of several people, bool (H, W) by class, as JSON: `annotators`, `pixels`, and `pairs`, per
    class the pixels that both, only the first, and only the second of each pair of them marked."""
    nothing = np.zeros(size, dtype=bool)
    pairs = {
        label: [
            [int((one & other).sum()), int((one & ~other).sum()), int((other & ~one).sum())]
            for one, other in itertools.combinations([masks.get(label, nothing) for masks in people], 2)
        ]
        for label in dict.fromkeys(itertools.chain(*people))
    }
    return json.dumps({"annotators": len(people), "pixels": size[0] * size[1], "pairs": pairs})


def _by_class(drawn: list[tuple[Row, np.ndarray | None]]) -> dict[str, np.ndarray]:
    own: dict[str, np.ndarray] = {}
    for row, mask in drawn:
        if mask is not None:
            label = str(row.class_)
            own[label] = own[label] | mask if label in own else mask
    return own


def _voted(drawn: list[list[tuple[Row, np.ndarray | None]]]) -> list[tuple[str, np.ndarray]]:
    """Pixels of each class that more than half of the people marked."""
    votes: dict[str, np.ndarray] = {}
    for of_one in drawn:
        for label, mask in _by_class(of_one).items():
            votes[label] = votes.get(label, 0) + mask.astype(np.int16)
    won = {label: count * 2 > len(drawn) for label, count in votes.items()}
    return [(label, mask) for label, mask in won.items() if mask.any()]
