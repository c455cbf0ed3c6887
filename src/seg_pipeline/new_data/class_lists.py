"""Names of the classes, by value, in the files of a folder that list them."""

import re
from collections.abc import Iterable

import pandas as pd

from seg_pipeline.new_data.scanning import Contents, base

MOST_CLASSES = 255
"""Values that are taken for classes without a list of names."""
BACKGROUND = {"background", "bg", "none", "unlabelled", "unlabeled", "_background_"}
VOID = {"void", "ignore", "unknown", "unlabelled", "unlabeled", "__ignore__"}


def named_values(contents: Contents, tables: Iterable[pd.DataFrame]) -> dict[str, str]:
    """Class names by value, colours as "r,g,b", from the first file that lists classes."""
    for file in contents.others:
        name = file.rsplit("/", 1)[-1].lower()
        if name in ("labelmap.txt", "label_colors.txt", "classes.txt", "labels.txt", "class_names.txt"):
            lines = (contents.root / file).read_text("utf-8-sig", errors="replace").splitlines()
            if found := _of_lines([line.strip() for line in lines if line.strip() and line[0] != "#"]):
                return found
    if found := class_names(tables):
        return found
    for file in contents.jsons:
        if base(file).lower() in ("dataset", "classes", "labels", "class_names"):
            content = contents.content(file)
            content = content.get("labels", content) if isinstance(content, dict) else content
            if isinstance(content, dict) and all(isinstance(one, int | str) for one in content.values()):
                turned = content if all(str(key).isdigit() for key in content) else {v: k for k, v in content.items()}
                if all(str(key).isdigit() for key in turned):
                    return {str(key): str(value) for key, value in turned.items()}
    return {}


def _of_lines(lines: list[str]) -> dict[str, str]:
    """Names of "name:r,g,b::" (CVAT), "r g b name", "id name", "id: name", or one name per line from value 1 on."""
    found = {}
    first = 1 - sum(line.lower() in BACKGROUND | VOID for line in lines[:2])
    for number, line in enumerate(lines, start=first):
        if one := re.fullmatch(r"([^:]+):\s*(\d+),\s*(\d+),\s*(\d+)(?::.*)?", line):
            found[",".join(one.groups()[1:])] = one[1].strip()
        elif one := re.fullmatch(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\D.*)", line):
            found[",".join(one.groups()[:3])] = one[4].strip()
        elif one := re.fullmatch(r"(\d+)[\s:,;]+(\D.*)", line):
            found[str(int(one[1]))] = one[2].strip()
        else:
            found[str(number)] = line
    return found


def class_names(tables: Iterable[pd.DataFrame]) -> dict[str, str]:
    """Class names by value, from the first table that lists classes; colours as "r,g,b"."""
    for table in tables:
        columns = {str(name).lower().strip(): table[name].fillna("").str.strip() for name in table}
        names = next((columns[one] for one in ("name", "class_name", "class", "label") if one in columns), None)
        if names is None or not names.is_unique or len(table) > MOST_CLASSES or names.str.isdigit().all():
            continue
        if {"r", "g", "b"} <= columns.keys():
            keys = columns["r"] + "," + columns["g"] + "," + columns["b"]
        else:
            numbers = [one for one in columns.values() if one.is_unique and one.str.isdigit().all()]
            keys = numbers[0] if numbers else names
        return dict(zip(keys, names, strict=True))
    return {}
