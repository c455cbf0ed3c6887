"""Find the cases in folders of volumes: two folders with equal file names, or nnU-Net's raw layout."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from seg_pipeline.segmentation.formats.dicom import is_dicom
from seg_pipeline.segmentation.formats.json_files import read_json
from seg_pipeline.segmentation.formats.volumes import Case
from seg_pipeline.segmentation.manifest.files import index_files
from seg_pipeline.segmentation.manifest.metadata import NO_CLASS

BACKGROUND = "background"
ANY = "any"
"""Value of a class that has every label above 0 that no other class has: the labels number objects."""


def find_cases(root: Path, *, images: dict[str, str], labels: dict[str, str]) -> list[Case]:
    """Cases below ``root``, sorted by name.

    Args:
        images, labels: ``glob`` and ``pattern`` for ``index_files``. The pattern's group ``series`` is the name of
            the case; of the images' groups, ``group`` keeps cases in one split and ``channel`` orders the files of a
            case.

    Raises:
        ValueError: no file matches, a file is image and label, or two label files belong to one case.
    """
    found, truth = (index_files(root, glob=one["glob"], pattern=one["pattern"]) for one in (images, labels))
    for table, what in ((found, "images"), (truth, "labels")):
        if "series" not in table:
            raise ValueError(f"{root}: the pattern of `{what}` needs a group named series, which is the case's name")
    stray = pd.concat([table[table["series"].isna()] for table in (found, truth)])
    found, truth = found.dropna(subset="series"), truth.dropna(subset="series")
    if twice := truth.loc[truth.duplicated("series"), "series"].tolist():
        raise ValueError(f"{root}: several label files belong to the case {twice[0]}; fix the pattern of `labels`")
    if both := sorted({*found["path"]} & {*truth["path"]}):
        raise ValueError(f"{both[0]}: the patterns of `images` and `labels` both match it; correct them")
    label_of = {one["series"]: Path(one["path"]) for one in truth.to_dict("records")}
    of_case: dict[str, list[dict]] = defaultdict(list)
    for one in found.sort_values([*(["channel"] if "channel" in found else []), "file"]).to_dict("records"):
        of_case[one["series"]].append(one)
    named = [_case(name, of_case.get(name, []), label_of.get(name)) for name in sorted({*of_case, *label_of})]
    reason = "the file name does not match the pattern"
    return named + [Case(one["file"], (Path(one["path"]),), None, None, reason) for one in stray.to_dict("records")]


def _case(name: str, images: list[dict], labels: Path | None) -> Case:
    problem = None
    if not images or labels is None:
        problem = f"the case {name} has no " + ("label file: it is not annotated" if images else "image")
    group = images[0].get("group") if images else None
    files = tuple(Path(one["path"]) for one in images)
    if len(files) > 1 and len({file.parent for file in files}) == 1 and is_dicom(files[0].parent):
        files = (files[0].parent,)  # its files are slices, not channels
    return Case(name, files, labels, group, problem)


def with_lost(case: Case, lost: Mapping[Path, str]) -> Case:
    """The case, unless a file of it is among those that cannot be read, each with the reason."""
    of_case = {*case.images, *([case.labels] if case.labels else [])}
    problem = next((why for path, why in lost.items() if not of_case.isdisjoint((path, *path.parents))), None)
    return replace(case, problem=case.problem or problem)


def read_nnunet(
    root: Path, *, channels: list[int] | None = None, names: str = ".+"
) -> tuple[list[Case], dict[str, list[int]]]:
    """Cases in nnU-Net's raw layout, and the label values of each class by its name.

    Layout, from https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md: ``dataset.json``,
    ``imagesTr/CASE_0000.ENDING`` with one file per channel, ``labelsTr/CASE.ENDING``.

    Args:
        channels: the channels that make the image, one or three; None: all.
        names: pattern of the case names; its group ``group`` is what must not be split.

    Raises:
        ValueError: ``dataset.json`` is missing or not of version 2, or the channels are neither one nor three.
    """
    content = _dataset_json(root / "dataset.json")
    ending = re.escape(content["file_ending"])
    known = sorted(int(number) for number in content["channel_names"])
    cases = find_cases(
        root,
        images={"glob": "imagesTr/*", "pattern": rf"imagesTr/(?P<series>{names})_(?P<channel>\d{{4}}){ending}"},
        labels={"glob": "labelsTr/*", "pattern": rf"labelsTr/(?P<series>.+){ending}"},
    )
    if len(known) == 3 and all(len(case.images) <= 1 for case in cases):
        known = [0]  # red, green and blue in one file
    wanted = known if channels is None else channels
    if len(wanted) not in (1, 3) or not set(wanted) <= set(known):
        raise ValueError(
            f"{root}: its channels are {content['channel_names']}; an image needs one or three of them: "
            f"choose them with `channels`, such as [0]"
        )
    return [_chosen(case, wanted) for case in cases], class_labels(content["labels"])


def _dataset_json(path: Path) -> dict[str, Any]:
    content = read_json(path, hint="; nnU-Net's raw layout needs it")
    wanted = {"channel_names": dict, "labels": dict, "file_ending": str}
    found = content if isinstance(content, dict) else {}
    if absent := [key for key, kind in wanted.items() if not isinstance(found.get(key), kind)]:
        raise ValueError(f"{path}: lacks {absent}; nnU-Net's version 1 layout must be converted to version 2 first")
    for name, value in found["labels"].items():
        values = value if isinstance(value, list) and value else [value]
        if value != ANY and not all(type(one) is int or (isinstance(one, str) and one.isdecimal()) for one in values):
            raise ValueError(
                f"{path}: the label {name!r:.80} is {value!r:.80}, expected a whole number or a list of them"
            )
    return content


def class_labels(labels: dict[str, Any]) -> dict[str, list[int]]:
    """Label values by class name, without the background; a region has several, ``ANY`` has none."""
    return {
        name: list(value) if isinstance(value, list) else [] if value == ANY else [int(value)]
        for name, value in labels.items()
        if name != BACKGROUND and value != 0
    }


def _chosen(case: Case, channels: list[int]) -> Case:
    """The case with the files of these channels only."""
    if case.problem:
        return case
    numbered = {int(re.findall(r"_(\d{4})\.", path.name)[-1]): path for path in case.images}
    files = tuple(numbered[channel] for channel in channels if channel in numbered)
    if len(files) < len(channels):
        return replace(case, problem=f"the case {case.name} has the channels {sorted(numbered)}, not all of {channels}")
    return replace(case, images=files)


def name_classes(annotations: pd.DataFrame, labels: dict[str, list[int]]) -> pd.DataFrame:
    """Replace label values in the class column by class names; a value in several regions gives one row per region.

    A class without values has all others above 0. Unknown values stay, and become findings.

    Raises:
        ValueError: no value is known.
    """
    names: dict[str, list[str]] = defaultdict(list, {NO_CLASS: [NO_CLASS]})
    for name, values in labels.items():
        for value in values:
            names[str(value)].append(name)
    found = set(annotations["class"]) - {NO_CLASS}
    rest = [name for name, values in labels.items() if not values]
    if rest:
        names |= {value: rest for value in found - names.keys() if value.isdigit()}
    if found and not found & names.keys():
        shown = ", ".join(f"{name}: {values[0] if len(values) == 1 else values}" for name, values in labels.items())
        raise ValueError(
            f"the labels hold the values {', '.join(sorted(found)[:5])}, but the classes are {shown}; set `values` in "
            f"the catalog, such as `values: {{{next(iter(labels), 'NAME')}: {min(found)}}}`"
        )
    named = annotations.copy()
    named["class"] = pd.Series([names.get(value, [value]) for value in annotations["class"]], dtype=object)
    return named.explode("class", ignore_index=True).astype({"class": "str"})
