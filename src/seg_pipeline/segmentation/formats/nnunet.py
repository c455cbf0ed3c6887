"""Write the manifest and its splits in nnU-Net's raw layout, version 2, to train nnU-Net on the same data.

One 8- or 16-bit PNG file per image, and one label map of whole numbers each. The layout is that of
https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md, regions as in
region_based_training.md and the label to ignore as in ignore_label.md beside it.
"""

import json
import logging
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.images.encoding import write_png
from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.manifest.table import NOT_ANNOTATED, class_names, read_masks
from seg_pipeline.segmentation.settings.progress import progress_bar
from seg_pipeline.segmentation.storage.atomic import replacing

Overlap = Literal["regions", "paint"]
log = logging.getLogger(__name__)

MARKER = "written_by_seg_pipeline.txt"
"""Lists the files of an export: the next one deletes these and nothing else."""
BACKGROUND, IGNORED = "background", "ignore"
"""Names that nnU-Net reads as label 0 and as pixels that do not count."""
FOLDERS = {"train": ("imagesTr", "labelsTr"), "val": ("imagesTr", "labelsTr"), "test": ("imagesTs", "labelsTs")}


def write_nnunet(manifest: pd.DataFrame, folder: Path, *, name: str, overlap: Overlap) -> dict[str, Any]:
    """Write images, label maps and splits to ``folder``, replacing an earlier export; return dataset.json's contents.

    The arguments and errors are those of ``plan_raw`` and ``write_raw``.
    """
    plan = plan_raw(manifest, name=name, overlap=overlap)
    write_raw(folder, plan)
    return plan["dataset_json"]


def plan_raw(manifest: pd.DataFrame, *, name: str, overlap: Overlap) -> dict[str, Any]:
    """What ``write_raw`` writes: dataset_json, splits_final, combinations and cases (the manifest with case names).

    Args:
        name: name of the data set in ``dataset.json``.
        overlap: "regions" gives each combination of overlapping classes its own label, and makes each class a region
            of all labels that contain it, so that nothing is lost; "paint" keeps the last class of a pixel only.

    Raises:
        ValueError: images differ in their number of channels, two would have the same name, or all classes are
            background.
    """
    kinds = manifest["channels"].value_counts()
    if len(kinds) > 1:
        raise ValueError(
            f"nnU-Net needs the same number of channels in all images, found {dict(kinds)} (channels: images); "
            "convert the images to one number of channels"
        )
    cases = manifest.assign(case=[re.sub(r"[^\w.-]", "_", one, flags=re.ASCII) for one in manifest["image_id"]])
    if (twice := cases["case"].duplicated(keep=False)).any():
        raise ValueError(
            f"images would have the same name in nnU-Net: {', '.join(cases.loc[twice, 'image_id'].head(4))}"
        )
    combinations, painted = _combinations(cases) if overlap == "regions" else ({}, _count_overlaps(cases))
    if painted:
        log.warning("nnU-Net: %d pixels of several classes got the label of the last of them", painted)
    content = {
        "name": name,
        "channel_names": {"0": "grey"} if kinds.index[0] == 1 else {"0": "R", "1": "G", "2": "B"},
        **_labels(_foreground(cases), combinations, ignore=_holds_unknown(cases)),
        "numTraining": int((cases["split"] != "test").sum()),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    if (highest := max(int(np.max(values)) for values in content["labels"].values())) > 255:
        remedy = "set `overlap: paint`" if combinations else "leave out classes"
        raise ValueError(f"nnU-Net's label images hold up to 255 labels, but {highest} are needed; {remedy}")
    return {"dataset_json": content, "splits_final": _splits(cases), "combinations": combinations, "cases": cases}


def _combinations(cases: pd.DataFrame) -> tuple[dict[tuple[int, ...], int], int]:
    """Labels of the sets of classes that share pixels, numbered after the single classes; 0 pixels are painted over."""
    names = _foreground(cases)
    found = {one for row in cases.to_dict("records") for one in _shared(read_masks(row, names) == 1)}
    return {classes: number for number, classes in enumerate(sorted(found), start=len(names) + 1)}, 0


def _shared(masks: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """Bool masks (H, W) of shared pixels, by the two or more classes that share them."""
    places = masks.sum(axis=0) > 1
    columns, which = np.unique(masks[:, places].T, axis=0, return_inverse=True)
    shared = {}
    for number, column in enumerate(columns):
        here = np.zeros(places.shape, dtype=bool)
        here[places] = which == number
        shared[tuple(np.flatnonzero(column).tolist())] = here
    return shared


def _foreground(cases: pd.DataFrame) -> list[str]:
    """Classes that get a label from 1; one called background is label 0, as pixels of no class."""
    names = [name for name in class_names(cases) if name.lower() != BACKGROUND]
    if not names:
        raise ValueError("nnU-Net needs a class besides the background; the manifest has none")
    return names


def _holds_unknown(cases: pd.DataFrame) -> bool:
    """Whether pixels are ignored, or a class is not annotated."""
    masks = cases[[f"mask_{name}" for name in _foreground(cases)]]
    return bool((cases["ignore"] != "").any() or (masks == NOT_ANNOTATED).any(axis=None))


def _count_overlaps(cases: pd.DataFrame) -> int:
    names = _foreground(cases)
    return sum(int(((read_masks(row, names) == 1).sum(axis=0) > 1).sum()) for row in cases.to_dict("records"))


def _labels(names: list[str], combinations: dict[tuple[int, ...], int], *, ignore: bool) -> dict[str, Any]:
    """Entries ``labels`` and, for regions, ``regions_class_order`` of dataset.json."""
    labels: dict[str, Any] = {BACKGROUND: 0}
    for number, name in enumerate(names):
        beside = [label for classes, label in combinations.items() if number in classes]
        labels[f"class_{name}" if name == IGNORED else name] = [number + 1, *beside] if combinations else number + 1
    if ignore:
        labels[IGNORED] = len(names) + len(combinations) + 1  # nnU-Net requires the highest label
    return {"labels": labels, **({"regions_class_order": list(range(1, len(names) + 1))} if combinations else {})}


def _splits(cases: pd.DataFrame) -> list[dict[str, list[str]]]:
    """First our train and val split, then the folds if the manifest has them."""
    split = {part: cases.loc[cases["split"] == part, "case"].tolist() for part in ("train", "val")}
    rest = cases[cases["split"] != "test"]
    folds = sorted(rest["fold"].unique()) if "fold" in rest else []
    return [split] + [
        {
            "train": rest.loc[rest["fold"] != fold, "case"].tolist(),
            "val": rest.loc[rest["fold"] == fold, "case"].tolist(),
        }
        for fold in folds
    ]


def write_raw(folder: Path, plan: dict[str, Any]) -> None:
    """Write ``plan`` to ``folder`` after removing an earlier export, complete or not, from it.

    Raises:
        ValueError: ``folder`` holds something else.
    """
    content, names = plan["dataset_json"], _foreground(plan["cases"])
    ignore = content["labels"].get(IGNORED, 0)
    rows = plan["cases"].to_dict("records")
    _make_room(folder, [file for row in rows for file in _files_of(row)])
    for row in progress_bar(rows, total=len(rows), title="writing for nnU-Net", unit="images"):
        _write_case(row, folder=folder, names=names, combinations=plan["combinations"], ignore=ignore)
    (folder / "splits_final.json").write_text(json.dumps(plan["splits_final"], indent=1) + "\n", encoding="utf-8")
    (folder / "dataset.json").write_text(
        json.dumps(content, indent=1) + "\n", encoding="utf-8"
    )  # last: marks a complete export
    log.info("wrote %d images for nnU-Net to %s", len(rows), folder)


def _make_room(folder: Path, files: list[str]) -> None:
    """Delete what the last export wrote, and list ``files`` before any is written."""
    marker = folder / MARKER
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise ValueError(
            f"{folder} holds files that no export has written, as it has no {MARKER}; choose a new or empty folder "
            "(delete the folder if an older version of seg_pipeline exported to it)"
        )
    for name in marker.read_text(encoding="utf-8").splitlines()[1:] if marker.exists() else ():
        (folder / name).unlink(missing_ok=True)
    for name in {name for names in FOLDERS.values() for name in names}:
        (folder / name).mkdir(parents=True, exist_ok=True)
    listed = ["The next export deletes these files:", "dataset.json", "splits_final.json", *files]
    with replacing(marker) as temporary:
        temporary.write_text("\n".join(listed) + "\n", encoding="utf-8")


def _files_of(row: dict) -> tuple[str, str]:
    """Image and label map, relative to the folder of the data set."""
    images, labels = FOLDERS[row["split"]]
    return f"{images}/{row['case']}_0000.png", f"{labels}/{row['case']}.png"


def _write_case(
    row: dict, *, folder: Path, names: list[str], combinations: dict[tuple[int, ...], int], ignore: int
) -> None:
    of_image, of_labels = _files_of(row)
    image = read_image(row["path"])
    write_png(folder / of_image, image)
    masks = read_masks(row, names)
    numbers = np.arange(1, len(names) + 1, dtype=np.uint8)[:, None, None]
    stored = ((masks == 1) * numbers).max(axis=0)  # of several classes the last
    for classes, here in _shared(masks == 1).items() if combinations else ():
        stored[here] = combinations[classes]
    unknown = (masks == IGNORE).any(axis=0)
    if not combinations:
        unknown &= stored == 0  # a pixel of one class is none of another that is not annotated
    stored[unknown] = ignore
    write_png(folder / of_labels, stored)
