"""Read a COCO annotation file into the annotation table.

The format, from https://cocodataset.org/#format-data: ``images`` have id, file_name, height and width;
``annotations`` have image_id, category_id, iscrowd and a segmentation; see ``coco_masks``. Tools differ in the
rest: ids may be text in one list and numbers in another, sizes and the ids of annotations may be absent.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from seg_pipeline.segmentation.formats.coco_masks import decode_segmentation
from seg_pipeline.segmentation.formats.json_files import read_json
from seg_pipeline.segmentation.formats.named_files import Named, find_files, image_id
from seg_pipeline.segmentation.images.addresses import format_address
from seg_pipeline.segmentation.images.decoding import read_size
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS
from seg_pipeline.segmentation.settings.reading import ReadSettings

Crowd = Literal["with_class", "apart"]
CROWD = "crowd"
"""Class name of a crowd region that is kept apart."""
InvalidAnnotations = Literal["drop_image", "drop_annotation"]
Orientation = Literal["apply", "keep"]
COLUMNS = ["image_id", "class", "mask", "annotation", "problem", "repaired"]


class Row(NamedTuple):
    image_id: str | None
    class_: str | None = None
    mask: str | None = None
    annotation: str | None = None
    problem: str | None = None
    repaired: str | None = None


class Image(NamedTuple):
    """An entry of ``images``, compared with its file."""

    image_id: str
    shape: tuple[int, int] | None
    """Height and width that its annotations are for."""
    problem: str | None


def read_coco(
    path: str | Path,
    images: str | Path,
    *,
    root: str | Path | None = None,
    crowd: Crowd = "with_class",
    invalid_annotations: InvalidAnnotations = "drop_image",
    orientation: Orientation = "apply",
) -> pd.DataFrame:
    """One row per annotation, and one per image without any; columns ``COLUMNS``, all str.

    ``image_id`` is the path of the image's file below ``root`` without its extension, ``class`` the category's name,
    ``annotation`` the annotation's id or, if it has none, its position in the list, such as "#1".

    Args:
        path: the JSON file.
        images: the folder that the file names are relative to; see ``find_files`` for names of another computer.
        root: a folder that holds ``images``; None: ``images`` itself.
        crowd: a region with ``iscrowd`` (many objects of a class, not told apart) is a mask of its class
            ("with_class"), or has the class ``CROWD`` ("apart"), to be declared as one to ignore.
        invalid_annotations: an annotation without a usable mask takes its image along ("drop_image"), or is left out
            alone ("drop_annotation"); a finding in either case.
        orientation: annotations are drawn on photos as their EXIF orientation turns them ("apply") or as they are
            stored ("keep"); must be the same as `dataset.reading.orientation`.

    Raises:
        ValueError: the file is missing, is not JSON, lacks one of its three lists, or has no usable annotation.
    """
    path = Path(path)
    content = _content(path)
    categories = {_key(one["id"]): str(one["name"]).strip() for one in content["categories"]}
    files = _files(content, path, Path(images))
    known = _images(content["images"], files, Path(images), Path(root or images), orientation)
    rows: list[Row] = []
    annotated = set()
    for number, one in enumerate(content["annotations"], start=1):
        image = known.get(_key(one.get("image_id")))
        if image is None or not image.problem:
            row = _row(one, str(one.get("id", f"#{number}")), image, categories, crowd)
            if row.problem and invalid_annotations == "drop_annotation":
                row = row._replace(image_id=None)
            rows.append(row)
            annotated.add(row.image_id)
    for image in known.values():
        if image.problem:
            rows.append(Row(image.image_id, problem=image.problem))
        elif image.image_id not in annotated:
            rows.append(Row(image.image_id, NO_CLASS))
    refuse_useless(path, rows)
    table = pd.DataFrame(rows, columns=COLUMNS, dtype="str")
    return with_repairs(table, files, path)


def list_images(path: Path, images: Path, *, root: Path) -> list[str]:
    """The ids that ``read_coco`` gives the images of a file."""
    content = _content(path)
    files = _files(content, path, images)
    return list(dict.fromkeys(image_id(str(one["file_name"]), files, images, root) for one in content["images"]))


def _files(content: dict[str, Any], path: Path, folder: Path) -> dict[str, Named]:
    return find_files({str(one["file_name"]) for one in content["images"]}, folder, beside=path.parent)


def _content(path: Path) -> dict[str, Any]:
    content = read_json(path)
    wanted = {"images": {"id", "file_name"}, "annotations": set(), "categories": {"id", "name"}}
    for name, keys in wanted.items():
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(one, dict) and keys <= one.keys() for one in entries):
            with_keys = f" whose entries have {', '.join(sorted(keys))}" if keys else " of annotations"
            raise ValueError(f"{path}: expected a list `{name}`{with_keys}, as in COCO's instances")
    for name, told in (("images", "file_name"), ("categories", "name")):
        ids: dict[str, Any] = {}
        for one in content[name]:
            if ids.setdefault(_key(one["id"]), one[told]) != one[told]:
                raise ValueError(f"{path}: the id {one['id']} occurs twice in `{name}`, of {ids[_key(one['id'])]} and "
                                 f"{one[told]}; it is unknown which the annotations mean")  # fmt: skip
    return content


def _key(value: Any) -> str:
    """An id as text: 7, 7.0 and "7" are equal."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _images(
    entries: list[dict[str, Any]], files: Mapping[str, Named], folder: Path, root: Path, orientation: Orientation
) -> dict[str, Image]:
    """Images by id; several that name one file have a problem, as their annotations are of different pictures."""
    known: dict[str, Image] = {}
    for one in entries:
        file = files[str(one["file_name"])].file
        fits = compare_size(one, folder / file if file else None, orientation)
        known[_key(one["id"])] = Image(image_id(str(one["file_name"]), files, folder, root), *fits)
    ids_of: dict[str, list[str]] = defaultdict(list)
    for key, image in known.items():
        ids_of[image.image_id].append(key)
    for ids in ids_of.values():
        reason = (
            f"the images with the ids {', '.join(ids)} have this file name, so it is unknown which annotations belong "
            "to the file; give each image its own file name, or merge the entries"
        )
        known |= {key: known[key]._replace(problem=reason) for key in ids if len(ids) > 1}
    return known


def compare_size(
    entry: dict[str, Any], path: Path | None, orientation: Orientation
) -> tuple[tuple[int, int] | None, str | None]:
    """Height and width that the annotations are for, by the entry or else the file, and why they do not fit the file.

    Masks are drawn at the stated size and would be wrong at another. A missing or damaged file is reported by
    data_processing itself.
    """
    height, width = (_whole(entry.get(name)) for name in ("height", "width"))
    stated = None if height is None or width is None else (height, width)
    try:
        size = read_size(format_address(path, ReadSettings(orientation=orientation))) if path else None
    except ValueError:
        size = None
    if size is None or stated is None or stated == size:
        return stated or size, None
    told = f"its annotations are for {stated[0]} x {stated[1]} (height x width), the image is {size[0]} x {size[1]}"
    if stated == size[::-1]:
        told += (
            ": height and width are swapped in the JSON file, the image was turned after it was annotated, or "
            "`orientation` in the catalog has the wrong value"
        )
    else:
        told += "; put the images there that were annotated, or annotations of these"
    return stated, told


def _whole(value: Any) -> int | None:
    """A side in pixels, also from 80.0 or "80"; None if it is not stated."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number > 0 and number.is_integer() else None


def _row(annotation: dict[str, Any], name: str, image: Image | None, categories: dict[str, str], crowd: Crowd) -> Row:
    """One row of the table; ``problem`` says what is wrong with the annotation."""
    if image is None:
        reason = f"annotation {name} is of image {annotation.get('image_id')}, which is not listed"
        return Row(None, annotation=name, problem=reason)
    row = Row(image.image_id, annotation=name)
    told = f"annotation {name} of {image.image_id}"
    category = categories.get(_key(annotation.get("category_id")))
    if category is None:
        return row._replace(problem=f"{told} has the category {annotation.get('category_id')}, which is not listed")
    try:
        mask = decode_segmentation(annotation.get("segmentation"), image.shape)
    except ValueError as error:
        return row._replace(class_=category, problem=f"{told} ({category}): {error}")
    class_ = CROWD if annotation.get("iscrowd") and crowd == "apart" else category
    return row._replace(class_=class_, mask=encode_rle(mask, order="C"))


def refuse_useless(path: Path, rows: list[Row]) -> None:
    """Stop if nothing can be used: not a single annotation is wrong then."""
    problems = Counter(row.problem for row in rows if row.problem)
    if problems and not any(row.mask is not None for row in rows):
        told = "; ".join(f"{problem} ({number} times)" for problem, number in problems.most_common(2))
        raise ValueError(f"{path}: no annotation can be used: {told}")


def with_repairs(table: pd.DataFrame, files: Mapping[str, Named], path: Path) -> pd.DataFrame:
    """One row tells that files were found by the last parts of their names alone."""
    ends = [(name, one.file) for name, one in sorted(files.items()) if one.file and not one.exact]
    if ends and len(table):
        name, file = ends[0]
        table.loc[0, "repaired"] = (
            f"{path.name}: {len(ends)} file names are paths of another computer; the files with the same last parts "
            f"are taken, such as {file} for {name}"
        )
    return table
