"""YOLO's segmentation labels: a text file per image, a line per polygon; https://docs.ultralytics.com/datasets/segment/."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from seg_pipeline.segmentation.formats.label_tools.shapes import Item, Picture, Shape, Size, Style, fill_polygon
from seg_pipeline.segmentation.images.listing import PICTURES, list_files

NO_LABELS = {"classes.txt", "train.txt", "val.txt", "test.txt", "requirements.txt"}


def read(folder: Path) -> Iterator[Item]:
    """The text files below a folder that have an image: labels/train/a.txt that of images/train/a.jpg, or one beside.

    An image without a text file, in a folder where others have one, may be a negative or not annotated.

    Raises:
        ValueError: data.yaml or classes.txt does not name the classes.
    """
    files = list_files(folder, "**/*")
    images = {Path(file).with_suffix("").as_posix(): file for file in files if file.lower().endswith(PICTURES)}
    names = class_names(folder, files)
    annotated = set()
    for file in files:
        if not file.endswith(".txt") or Path(file).name in NO_LABELS:
            continue
        stem = file.removesuffix(".txt")
        parts = stem.split("/")
        beside = "/".join("images" if part == "labels" else part for part in parts)
        if image := images.get(beside, images.get(stem)):
            lines = (folder / file).read_text(encoding="utf-8-sig").splitlines()
            yield Item(image, [_shape(line.split(), names) for line in lines if line.strip()])
            annotated.add(image)
    folders = {Path(image).parent for image in annotated}
    for image in images.values():
        if Path(image).parent in folders and image not in annotated:
            yield Item(image, [], state="listed")


def class_names(folder: Path, files: list[str]) -> dict[int, str]:
    """Names by number from data.yaml (or another YAML file with `names`) or classes.txt."""
    for file in (one for one in files if one.endswith((".yaml", ".yml"))):
        content = yaml.load((folder / file).read_text(encoding="utf-8-sig"), yaml.BaseLoader)  # "yes" is a name
        names = content.get("names") if isinstance(content, dict) else None
        if names:
            numbered = names.items() if isinstance(names, dict) else enumerate(names)
            return {int(key): str(name) for key, name in numbered}
    for file in (one for one in files if Path(one).name == "classes.txt"):
        return dict(enumerate(map(str.strip, (folder / file).read_text(encoding="utf-8-sig").splitlines())))
    raise ValueError(f"{folder}: nothing names YOLO's classes; put data.yaml with `names` there, as for training")


def _shape(words: list[str], names: dict[int, str]) -> Shape:
    def draw(size: Size) -> np.ndarray:
        values = np.array(words[1:], dtype=float)
        if len(values) % 2:
            raise ValueError(f"a polygon must be x and y of each point, found {len(values)} numbers")
        return fill_polygon((values.reshape(-1, 2) * size[::-1]).tolist(), size)

    number = float(words[0])
    label = names.get(int(number), f"class_{int(number)}")
    return Shape(label, "box", None) if len(words) == 5 else Shape(label, "polygon", draw)


def write(folder: Path, pictures: Iterable[Picture], colours: dict[str, str], style: Style) -> None:
    """data.yaml and a text file per image in labels/, which belong beside images/."""
    numbers = {name: number for number, name in enumerate(colours)}
    for picture in pictures:
        path = folder / "labels" / Path(picture.file).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for region in style.regions(picture, polygons=True):
            assert region.polygon is not None
            points = region.polygon / picture.size[::-1]
            lines.append(" ".join([str(numbers[region.label]), *(f"{one:.9g}" for one in points.ravel())]) + "\n")
        path.write_text("".join(lines), encoding="utf-8")
    content: dict[str, Any] = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(colours))}
    (folder / "data.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
