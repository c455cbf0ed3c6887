"""Choose training settings that fit the data, each with its reason, from the images of the trial.

Axes: G groups, C classes, H rows, W columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd

from seg_pipeline.new_data.writing import padded_size
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.manifest.table import OBJECT_MAP, class_names, read_masks
from seg_pipeline.segmentation.objects.label_maps import decode_labels

SIDE = 16
"""Rows and columns of the maps in which mirrored images are compared."""
FEW_GROUPS = 6
"""Fewer groups than this cannot show that classes lie on no particular side."""
FEWEST_FOLDERS = 3
"""Fewer folders than this may be those of splits."""
ALIKE = 0.1
"""Mean cosine up to which the groups' differences from their mirror images count as unrelated, chance deducted."""
SIDED = re.compile(r"(?i)(^|[^a-z])(left|right|l|r)([^a-z]|$)")
"""Names of classes that would be wrong in a mirrored image."""

FEWEST_PIXELS = 25
"""Area at the network's input that a small object should keep: 5 x 5 pixels."""
SMALL = 10
"""Percentile of the objects' areas that counts as small."""
SPECK = 4
"""Connected pixels below this number are no object."""

PIXELS_PER_RUN = 4e8
"""Pixels of all train images of all epochs: about five minutes on two cores with the default network."""
EPOCHS = 25
"""The default, and the fewest."""
MOST_EPOCHS = 300
VALIDATIONS = 25

TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "left to right": lambda maps: maps[..., ::-1],
    "top to bottom": lambda maps: maps[..., ::-1, :],
    "by a quarter": lambda maps: np.rot90(maps, axes=(-2, -1)),
}
VIEWS = {
    "microscopy": ("flips", "predictions are averaged over the four mirrored images that training shows as well, which "
                   "takes four times as long (`prediction.tta: none` is faster)"),
    "street": ("horizontal", "predictions are averaged over the image and its mirror image, which takes twice as long "
               "(`prediction.tta: none` is faster)"),
}  # fmt: skip
"""Mirrored images that an augmentation makes the network used to: `prediction.tta`, and the reason."""


class Facts(NamedTuple):
    """What the images of the trial show."""

    differences: dict[str, float]
    """How alike the groups differ from their mirrored or turned images: mean cosine over pairs of groups less what
    chance explains, up to 1; empty if there is one group."""
    smallest_object: float | None
    """Area of a small object in pixels; None if no image shows one."""
    height: int
    width: int
    """Median size of the images."""
    groups: int
    colour: bool


def look(manifest: pd.DataFrame) -> Facts:
    """Measure the images and masks of a manifest."""
    names = class_names(manifest)
    maps: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    areas: list[int] = []
    for row, unit in zip(manifest.to_dict("records"), _units(manifest), strict=True):
        shown = (read_masks(row, names) == 1).astype(np.uint8)
        areas += [area for name, mask in zip(names, shown, strict=True) for area in _areas(mask, row, name)]
        small = np.stack([cv2.resize(mask.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
                          for mask in shown])  # fmt: skip
        maps.setdefault(unit, []).append((_grey(row["path"]), small))
    of_groups = [[np.mean(parts, axis=0) for parts in zip(*one, strict=True)] for one in maps.values()]
    differences = {}
    if len(of_groups) > 1:
        kinds = [np.stack(kind) for kind in zip(*of_groups, strict=True)]
        differences = {name: max(_beyond_chance(kind - turn(kind)) for kind in kinds) for name, turn in TURNS.items()}
    return Facts(
        differences,
        float(np.percentile(areas, SMALL)) if areas else None,
        int(manifest["height"].median()),
        int(manifest["width"].median()),
        len(maps),
        bool((manifest["channels"] == 3).mean() > 0.5),
    )


def _units(manifest: pd.DataFrame) -> list[str]:
    """Groups of the images. Where each image is its own, their folders if there are at least ``FEWEST_FOLDERS``: images
    of a folder may be alike, as the frames of a film are."""
    groups = manifest["group"].astype(str)
    folders = manifest["image_id"].astype(str).str.rpartition("/")[0]
    alone = groups.nunique() == len(groups) and folders.nunique() >= FEWEST_FOLDERS
    return (folders if alone else groups).tolist()


def _areas(mask: np.ndarray, row: dict, name: str) -> list[int]:
    """Pixels of each object of a class; of each connected part of its mask if the manifest knows no objects."""
    if f"{OBJECT_MAP}{name}" in row:
        found = np.bincount(decode_labels(row[f"{OBJECT_MAP}{name}"], mask.shape).ravel())[1:].tolist()
    else:
        found = cv2.connectedComponentsWithStats(mask)[2][1:, cv2.CC_STAT_AREA].tolist()
    return [area for area in found if area >= SPECK]


def _grey(path: str) -> np.ndarray:
    """Tiny grey copy of an image with mean 0 and deviation 1: (1, SIDE, SIDE)."""
    image = read_image(path).astype(np.float32)
    small = cv2.resize(image.mean(axis=2) if image.ndim == 3 else image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return ((small - small.mean()) / (small.std() + 1e-6))[None]


def _beyond_chance(differences: np.ndarray) -> float:
    """``alike`` less two standard deviations of its value for unrelated differences: float (G, C, SIDE, SIDE).

    As maps, and as sums of their rows and columns: those find what lies on one side at any height.
    """
    pairs = len(differences) * (len(differences) - 1) / 2
    sums = np.concatenate([differences.sum(axis) for axis in (-2, -1)], axis=-1)
    free = {"maps": SIDE**2 / 2, "sums": SIDE / 4}  # neighbours are alike, so sums have fewer degrees of freedom
    found = {"maps": alike(differences), "sums": alike(sums)}
    return max(found[kind] - 2 / (free[kind] * pairs) ** 0.5 for kind in found)


def alike(differences: np.ndarray) -> float:
    """Mean cosine of all pairs of groups: float (G, ...) of any shape; 0 if fewer than two differ from 0."""
    flat = differences.reshape(len(differences), -1)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = (flat / np.maximum(norms, 1e-9))[norms[:, 0] > 1e-6]
    pairs = np.triu_indices(len(flat), 1)
    return float((flat @ flat.T)[pairs].mean()) if pairs[0].size else 0.0


def fitted(training: dict[str, Any], facts: Facts, classes: list[str], num_images: int) -> Iterator[tuple[dict, str]]:
    """Yield changes to the parameters, in the form of `parameters.yml`, each with its reason.

    Args:
        training: settings so far, with ``input``.
        num_images: images of the whole data set; 0 if unknown.
    """
    if "size" not in training["input"]:
        size = padded_size(facts.height, facts.width)
        training = merged(training, {"input": {"size": size}})
        told = f"network input: {size[0]} x {size[1]} (pad), for slices of {facts.height} x {facts.width} (median)"
        yield {"training": {"input": {"size": size}}}, told
    scale = _scale_for_objects(training["input"], facts)
    if scale:
        yield {"training": scale[0]}, scale[1]
    augmentation, why = _augmentation(facts, classes)
    yield {"training": {"sampling": {"augmentation": augmentation}}}, f"augmentation `{augmentation}`: {why}"
    if views := VIEWS.get(augmentation):
        yield {"prediction": {"tta": views[0]}}, views[1]
    if num_images and (run := _length(merged(training, scale[0] if scale else {})["input"], num_images, facts)):
        yield {"training": run[0]}, run[1]


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``settings`` with the entries of nested ``changes``."""
    both = settings.keys() & changes.keys()
    inner = {key: merged(settings[key], changes[key]) for key in both if isinstance(changes[key], dict)}
    return {**settings, **changes, **inner}


def _scale_for_objects(given: dict[str, Any], facts: Facts) -> tuple[dict, str] | None:
    """Larger images, or windows instead of whole images, where the smallest objects would shrink to a few pixels."""
    if facts.smallest_object is None:
        return None
    whole = "size" in given and given.get("resize_mode") != "crop"
    if whole:
        scale = min(1.0, (given["size"][0] * given["size"][1] / (facts.height * facts.width)) ** 0.5)
    else:
        scale = given.get("scale", 1.0)
    kept = min(1.0, (FEWEST_PIXELS / max(facts.smallest_object, 1)) ** 0.5)
    if scale >= 0.95 * kept or (whole and min(facts.height, facts.width) < 64):
        return None
    kept = round(kept, 2)
    why = (
        f"small objects have {facts.smallest_object:.0f} pixels and would have "
        f"{facts.smallest_object * scale**2:.0f} in images scaled by {scale:.2g}: windows of images scaled by {kept:g}"
    )
    side = 256 if min(facts.height, facts.width) * kept >= 256 else 128
    return {"input": {"size": [side, side], "resize_mode": "crop", "scale": kept, "zoom": 1.5}}, why


def _augmentation(facts: Facts, classes: list[str]) -> tuple[str, str]:
    sided = [name for name in classes if SIDED.search(name)]
    differ = [name for name, value in facts.differences.items() if value > ALIKE]
    values = ", ".join(f"{name} {value:.2f}" for name, value in facts.differences.items())
    if sided:
        name, why = "medical", f"no mirroring, because of the class {sided[0]}"
    elif not facts.differences:
        name, why = "medical", "no mirroring: a single group does not tell whether its images may be mirrored"
    elif "left to right" in differ:
        name, why = "medical", f"no mirroring, as left and right differ in the same way in all groups ({values})"
    elif len(classes) > 1 and facts.groups < FEW_GROUPS and not facts.colour:
        name, why = "medical", f"no mirroring: {facts.groups} groups do not tell if classes lie on a particular side"
    elif differ or (len(classes) > 1 and facts.groups < FEW_GROUPS):
        name, why = "street", f"mirroring from left to right, but no turns ({values})"
    else:
        name, why = "microscopy", f"mirroring and all turns, as the groups have no common direction ({values})"
    return name, why


def _length(given: dict[str, Any], num_images: int, facts: Facts) -> tuple[dict, str] | None:
    height, width = given.get("size", (128, 128))
    train = max(1, round(0.7 * num_images))
    windows = facts.height * facts.width * given.get("scale", 1.0) ** 2 / (height * width)
    most = MOST_EPOCHS * (max(1.0, windows) if given.get("resize_mode") == "crop" else 1.0)  # an epoch takes one window
    epochs = min(round(most), round(PIXELS_PER_RUN / (train * height * width)))
    if epochs <= EPOCHS:
        return None
    fit = {"epochs": epochs}
    if epochs >= 2 * VALIDATIONS:
        fit["validate_every"] = epochs // VALIDATIONS
    why = f"as there are only about {train} train images: five minutes or so on two cores"
    return {"fit": fit}, f"{epochs} epochs, {why}"
