"""Read a COCO annotation file into the annotation table.

The format, from https://cocodataset.org/#format-data: ``images`` have id, file_name, height and width;
``annotations`` have image_id, category_id, iscrowd and a segmentation, which is a list of polygons (x y x y
...), or run lengths down columns, as a list of counts or as a compressed string.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.formats.json_files import read_json
from seg_pipeline.segmentation.images.decoding import read_size
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS

Crowd = Literal["with_class", "apart"]
CROWD = "crowd"
"""Class name of a crowd region that is kept apart."""
Row = tuple[str | None, str | None, str | None, str | None, str | None]
COLUMNS = ["image_id", "class", "mask", "annotation", "problem"]


def read_coco(path: str | Path, images: str | Path, *, crowd: Crowd = "with_class") -> pd.DataFrame:
    """One row per annotation, and one per image without any; columns ``COLUMNS``, all str.

    ``image_id`` is the image's file_name without its extension, ``class`` the category's name, ``annotation``
    the annotation's id.

    Args:
        path: the JSON file.
        images: the folder that the file names are relative to; sizes are checked against the files' headers.
        crowd: a region with ``iscrowd`` (many objects of a class, not told apart) is a mask of its class
            ("with_class"), or has the class ``CROWD`` ("apart"), to be declared as one to ignore.

    Raises:
        ValueError: the file is missing, is not JSON or lacks one of its three lists.
    """
    content = _content(Path(path))
    categories = {one["id"]: str(one["name"]) for one in content["categories"]}
    known = {one["id"]: one for one in content["images"]}
    problems = {key: problem for key, one in known.items() if (problem := _size_problem(one, Path(images)))}
    rows: list[Row] = [_row(one, known, categories, crowd) for one in content["annotations"]]
    rows += [(_image_id(known[key]), None, None, None, problem) for key, problem in problems.items()]
    annotated = {one.get("image_id") for one in content["annotations"]}
    rows += [(_image_id(one), NO_CLASS, None, None, None) for key, one in known.items() if key not in annotated]
    return pd.DataFrame(rows, columns=COLUMNS, dtype="str")


def _content(path: Path) -> dict[str, Any]:
    content = read_json(path)
    wanted = {"images": {"id", "file_name"}, "annotations": {"id"}, "categories": {"id", "name"}}
    for name, keys in wanted.items():
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(one, dict) and keys <= one.keys() for one in entries):
            raise ValueError(
                f"{path}: expected a list `{name}` whose entries have {', '.join(sorted(keys))}, as in COCO's instances"
            )
        ids = pd.Series([one["id"] for one in entries], dtype=object)
        if ids.duplicated().any():
            raise ValueError(f"{path}: the id {ids[ids.duplicated()].iloc[0]} occurs twice in `{name}`")
    return content


def _image_id(image: dict[str, Any]) -> str:
    return PurePosixPath(str(image["file_name"]).replace("\\", "/")).with_suffix("").as_posix()


def _size_problem(image: dict[str, Any], folder: Path) -> str | None:
    """Why an image does not fit its annotations: masks are drawn at the stated size and would be wrong at another."""
    try:
        size = read_size(folder / str(image["file_name"]))
    except ValueError:
        return None  # data_processing reports a missing or damaged image itself
    stated = (image.get("height"), image.get("width"))
    if stated == size:
        return None
    return f"its annotations are for {stated[0]} x {stated[1]} (height x width), the image is {size[0]} x {size[1]}"


def _row(
    annotation: dict[str, Any], images: dict[Any, dict[str, Any]], categories: dict[Any, str], crowd: Crowd
) -> Row:
    """One row of the table; its last column says what is wrong with the annotation."""
    name, image = str(annotation["id"]), images.get(annotation.get("image_id"))
    if image is None:
        return (
            None,
            None,
            None,
            name,
            f"annotation {name} is of image {annotation.get('image_id')}, which is not listed",
        )
    category = categories.get(annotation.get("category_id"))
    if category is None:
        reason = f"annotation {name} has the category {annotation.get('category_id')}, which is not listed"
        return _image_id(image), None, None, name, reason
    try:
        mask = decode_segmentation(annotation.get("segmentation"), (image.get("height"), image.get("width")))
    except ValueError as error:
        return _image_id(image), category, None, name, f"annotation {name} ({category}): {error}"
    class_ = CROWD if annotation.get("iscrowd") and crowd == "apart" else category
    return _image_id(image), class_, encode_rle(mask, order="C"), name, None


def decode_segmentation(segmentation: Any, shape: tuple[int | None, int | None]) -> np.ndarray:
    """Bool mask (H, W) of COCO's polygons, counts or compressed counts.

    Polygons are filled by pycocotools, after a check for NaN, on which it would take all memory. Counts are checked and
    decoded here: if they end early, pycocotools 2.0.11 returns pixels of uninitialised memory.

    Raises:
        ValueError: it has another format or does not fit an image of ``shape``.
    """
    height, width = shape
    if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
        raise ValueError(f"its image has no height and width, found {height} x {width}")
    if not segmentation:
        raise ValueError("it has no segmentation; boxes and key points are not masks")
    if isinstance(segmentation, list):
        return _fill_polygons(segmentation, (height, width))
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError("a segmentation must be a list of polygons or have `size` and `counts`")
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(f"its run lengths are for {segmentation['size']} (height, width), its image is {list(shape)}")
    counts = segmentation["counts"]
    return _lay_out(expand_counts(counts) if isinstance(counts, str) else counts, (height, width))


def _fill_polygons(polygons: list[Any], shape: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as coco

    for polygon in polygons:
        if not isinstance(polygon, list) or not all(isinstance(one, int | float) for one in polygon):
            raise ValueError("a polygon must be a list of numbers")
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"a polygon must have at least 3 points of x and y, found {len(polygon)} numbers")
        if not all(-max(shape) <= one <= 2 * max(shape) for one in polygon):  # NaN fails, too
            raise ValueError(f"a polygon lies far outside its image of {shape[0]} x {shape[1]} (height x width)")
    filled = coco.merge(coco.frPyObjects(polygons, *shape))
    return _lay_out(expand_counts(filled["counts"].decode()), shape)


def expand_counts(compressed: str) -> list[int]:
    """Decode a compressed string of counts: 5 bits per character, lowest first; the sixth bit means that more follow.
    From the fourth count on, each is a difference to the count two before.

    Source: rleFrString in https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c.
    """
    counts: list[int] = []
    value = shift = 0
    for code in (ord(character) - 48 for character in compressed):
        if not 0 <= code < 64 or shift > 35:
            raise ValueError("its compressed counts hold characters that COCO does not use")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        value -= 1 << shift if code & 16 else 0
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("its compressed counts end in the middle of a number")
    return counts


def _lay_out(counts: Any, shape: tuple[int, int]) -> np.ndarray:
    """Bool mask (H, W) from pixels off, on, off ... down columns."""
    size = shape[0] * shape[1]
    whole = isinstance(counts, list) and all(isinstance(one, int) and 0 <= one <= size for one in counts)
    if not whole or sum(counts) != size:
        raise ValueError(f"its counts must be whole numbers that add up to the image's {size} pixels")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(shape, order="F")
