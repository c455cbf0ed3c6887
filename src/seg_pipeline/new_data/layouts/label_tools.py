"""Layouts of label tools: CVAT, Label Studio, VIA, labelme, Supervisely and YOLO."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.layouts import coco
from seg_pipeline.new_data.layouts.pictures import index_of
from seg_pipeline.new_data.plan import NO_MASK_FILES, RAW, Plan
from seg_pipeline.new_data.scanning import Contents, common_folder
from seg_pipeline.segmentation.formats.label_tools import READERS, ReadRules, ReadTool
from seg_pipeline.segmentation.formats.label_tools.label_studio import is_export
from seg_pipeline.segmentation.formats.label_tools.table import annotation_table, several_times
from seg_pipeline.segmentation.formats.label_tools.via import entries
from seg_pipeline.segmentation.formats.named_files import find_files, why_absent

ANNOTATORS = {
    "latest": "the annotation that was changed last",
    "vote": "the pixels that more than half of the people marked",
}
UNKNOWN = "__ignore__"
"""labelme's label of pixels that count neither as a class nor as background."""
YOLO_POLYGON = re.compile(r"\d+(?:\.0*)?(?:\s+[\d.e+-]+){6,}")


def recognise(contents: Contents, jsons: dict[str, Any]) -> Iterator[tuple[ReadTool, str]]:
    """Tools and their files; "" is the folder. ``jsons``: contents of JSON files by name."""
    for file, content in jsons.items():
        if entries(content):
            yield "via", file
        elif is_export(content):
            yield "label_studio", file
    mappings = [one for one in jsons.values() if isinstance(one, dict)]
    if any(isinstance(one.get("shapes"), list) and "imagePath" in one for one in mappings):
        yield "labelme", ""
    if any(isinstance(one.get("objects"), list) and "size" in one for one in mappings):
        yield "supervisely", ""
    for file in contents.others:
        if file.lower().endswith(".xml"):
            with (contents.root / file).open(encoding="utf-8", errors="replace") as text:
                start = text.read(2000)
            if "<annotations>" in start and ("<meta>" in start or "<image " in start):
                yield "cvat", file
    texts = [file for file in contents.others if file.endswith(".txt")]
    named = any(file.endswith((".yaml", ".yml", "classes.txt")) for file in contents.others)
    if named and any(_is_yolo(contents, file) for file in texts[:50]):
        yield "yolo", ""


def _is_yolo(contents: Contents, file: str) -> bool:
    lines = (contents.root / file).read_text("utf-8-sig", errors="replace").splitlines()
    return any(YOLO_POLYGON.fullmatch(line.strip()) for line in lines[:50])


def read(contents: Contents, tool: ReadTool, file: str, ask: Asker) -> Plan:
    """Plan for the annotations of a tool.

    Raises:
        ValueError: the folder does not hold the images, or no annotation can be used.
    """
    path = contents.root / file
    items = list(READERS[tool](path))
    found = find_files({item.file for item in items}, contents.root, beside=path if not file else path.parent)
    pictures = sorted({one.file for one in found.values() if one.file})
    if not pictures:
        why = why_absent(items[0].file, contents.pictures)
        raise ValueError(f"{contents.root}: the annotations of {tool} name {items[0].file}, but {why}")
    folder = common_folder(pictures)
    rules = ReadRules()
    if told := several_times(path, items, contents.root / folder):
        rules = ReadRules(annotators=ask.choose("annotators", f"{told}. What counts?", ANNOTATORS, None))  # type: ignore[arg-type]
    table = annotation_table(items, path, contents.root / folder, rules)
    shown = file or f"the files of {tool}"
    paths, classes = coco.described(contents, table, folder, f"{shown}: {len(items)} annotated images", ask)
    if UNKNOWN in classes.values and len(classes.values) > 1:
        ask.decide(f"{UNKNOWN}: its pixels count neither in training nor in scores, as in labelme's own export")
        rest = {name: value for name, value in classes.values.items() if name != UNKNOWN}
        classes = replace(classes, values=rest, ignore=[UNKNOWN])
    listed = [one.relative_to(contents.root).as_posix() for one in paths.values()]
    whole = any("/" in image_id for image_id in paths)
    up = "../" * (len(PurePosixPath(file).parts) - 1) if file else ""
    entry = {
        "type": "seg_pipeline.datasets.label_tools.LabelToolDataset",
        "filepath": f"{RAW}/{file}" if file else RAW,
        "tool": tool,
        "images": up + folder or ".",
        **({"annotators": rules.annotators} if told else {}),
    }
    catalog = {
        "raw_metadata": entry,
        "mask_files": NO_MASK_FILES,
        "image_files": index_of(listed, folder, ask, whole=whole, others=[*contents.pictures, *contents.jsons]),
    }
    return Plan(contents.root, catalog, classes, coco.ANNOTATIONS, list(paths.values()))
