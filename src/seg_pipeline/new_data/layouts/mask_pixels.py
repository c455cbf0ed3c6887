"""Tell masks from images by their pixels, where no name does."""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from seg_pipeline.new_data.classes import evenly
from seg_pipeline.new_data.scanning import SPLIT_WORD, Contents, base, ending, rank
from seg_pipeline.segmentation.images.decoding import read_values

MOST_KINDS = 40
"""Kinds of files of which a few are read."""
SAMPLED = 3
MOST_VALUES = 40
FLAT = 0.7
"""Least share of a mask's pixels that equal their left neighbour."""


def told_by_pixels(contents: Contents) -> Contents:
    """The contents with the files that hold few values, in large areas, as masks, if other files do not."""
    kinds: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for file in contents.pictures:
        word = re.search(r"[_\-. ]([A-Za-z]+)$", base(file))
        kinds[_same(file.rpartition("/")[0]), word[1] if word else "", ending(file).lower()].append(file)
    if len(kinds) > MOST_KINDS:
        return contents
    flat = [files for files in kinds.values() if all(_is_flat(contents.root / one) for one in evenly(files, SAMPLED))]
    masks = {file for files in flat for file in files}
    images = {_same(above) for file in contents.pictures if file not in masks for above in _above(file)}
    groups: dict[str, list[str]] = defaultdict(list)
    for file in sorted(masks):
        own = [one for one in map(_same, _above(file)) if one not in images]  # folders without images, the inner first
        groups[own[-1] if own else _same(file.rpartition("/")[0])].append(file)
    ranked = sorted(groups.items(), key=lambda item: (rank(item[0]), item[0]))
    return replace(contents, masks_by_pixels=dict(ranked)) if images else contents


def _same(folder: str) -> str:
    """The folder's name without what sets images and splits apart."""
    return re.sub(r"\d+", "#", re.sub(SPLIT_WORD, "*", folder, flags=re.IGNORECASE))


def _above(file: str) -> list[str]:
    return [one.as_posix() for one in Path(file).parents]


def _is_flat(path: Path) -> bool:
    try:
        values = read_values(path)
    except ValueError:
        return False
    pixels = values.reshape(*values.shape[:2], -1)
    same = (pixels[:, 1:] == pixels[:, :-1]).all(axis=2)
    return len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) <= MOST_VALUES and bool(same.mean() > FLAT)
