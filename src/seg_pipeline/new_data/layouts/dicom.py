"""DICOM series, one folder per series, with labels in DICOM SEG, RTSTRUCT or another volume."""

from collections import defaultdict

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.layouts.volumes import case_pattern, plan_of_pairs
from seg_pipeline.new_data.plan import Plan
from seg_pipeline.new_data.scanning import Contents, mask_folder
from seg_pipeline.segmentation.formats.dicom import is_dicom, mask_kind
from seg_pipeline.segmentation.formats.volume_files import VOLUMES


def list_dicom(contents: Contents) -> list[str]:
    """Files below the root that are named as DICOM or begin as DICOM does; archives export them without an ending."""
    return [file for file in contents.others if is_dicom(contents.root / file)]


def read(contents: Contents, files: list[str], known: dict[str, str], ask: Asker) -> Plan | str:
    """The plan, or why there is none."""
    folders: dict[str, list[str]] = defaultdict(list)
    for file in files:
        folders[file.rpartition("/")[0]].append(file)
    masks = {folder for folder, group in folders.items() if mask_kind(contents.root / group[0])}
    drawn = [file for folder in sorted(masks) for file in folders[folder]]
    labels = drawn or [file for file in contents.volumes if mask_folder(file) is not None] or contents.volumes
    series = sorted(set(folders) - masks)
    if not labels:
        return f"{len(files)} DICOM files, but no labels: neither RTSTRUCT nor DICOM SEG nor another volume"
    if not series or "" in series:
        return "each DICOM series needs its own folder"
    paths = [f"{one}.dcm" for one in series]
    others = {file.rpartition("/")[0] for file in labels}
    if all(file.lower().endswith((".dcm", *VOLUMES)) for file in labels):
        of_labels = case_pattern(labels, [f"{one}/0.dcm" for one in series])
    elif len(others) == len(labels):
        of_labels = _of_folders(case_pattern([f"{one}.dcm" for one in sorted(others)], paths), labels)
    else:
        return f"{labels[0]} and other labels share a folder without an ending; let their names end in .dcm"
    of_images = _of_folders(case_pattern(paths, [f"{one}.dcm" for one in masks]), files)
    pairs = {"images": of_images, "labels": of_labels}
    if plan := plan_of_pairs(contents, pairs, [folders[folder][0] for folder in series], known, ask):
        return plan
    return (
        f"each case needs one series and one label, but there are {len(series)} series, such as "
        f"{', '.join(series[:2])}, and {len(labels)} labels, such as {', '.join(labels[:2])}"
    )


def _of_folders(found: dict[str, str] | None, files: list[str]) -> dict[str, str] | None:
    """The glob and pattern of ``files`` in folders, from those of the folders with an ending."""
    if found is None:
        return None
    named = all(file.lower().endswith(".dcm") for file in files)
    return {
        "glob": found["glob"].removesuffix(".dcm") + ("/*.dcm" if named else "/*"),
        "pattern": found["pattern"].removesuffix(r"\.dcm") + (r"/[^/]+\.dcm" if named else "/[^/]+"),
    }
