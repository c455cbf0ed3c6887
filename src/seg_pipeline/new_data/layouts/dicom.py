"""DICOM series, one folder per series, with labels in DICOM SEG, RTSTRUCT or another volume."""

from __future__ import annotations

from collections import defaultdict

from seg_pipeline.new_data.asking import Asker
from seg_pipeline.new_data.layouts.volumes import case_pattern, plan_of_pairs
from seg_pipeline.new_data.plan import Plan
from seg_pipeline.new_data.scanning import Contents
from seg_pipeline.segmentation.formats.dicom import mask_kind


def list_dicom(contents: Contents) -> list[str]:
    """Files below the root that are named as DICOM."""
    return [file for file in contents.others if file.lower().endswith(".dcm")]


def read(contents: Contents, files: list[str], known: dict[str, str], ask: Asker) -> Plan | str | None:
    """The plan, or why there is none; None where series and labels do not belong together."""
    folders: dict[str, list[str]] = defaultdict(list)
    for file in files:
        folders[file.rpartition("/")[0]].append(file)
    masks = {folder for folder, group in folders.items() if mask_kind(contents.root / group[0])}
    labels = [file for folder in sorted(masks) for file in folders[folder]] or contents.volumes
    series = sorted(set(folders) - masks)
    if not labels:
        return f"{len(files)} DICOM files, but no labels: neither RTSTRUCT nor DICOM SEG nor another volume"
    if not series or "" in series:
        return "each DICOM series needs its own folder"
    pairs = {
        "images": _of_folders(case_pattern([f"{one}.dcm" for one in series], [f"{one}.dcm" for one in masks])),
        "labels": case_pattern(labels, [f"{one}/0.dcm" for one in series]),
    }
    return plan_of_pairs(contents, pairs, [folders[folder][0] for folder in series], known, ask)


def _of_folders(found: dict[str, str] | None) -> dict[str, str] | None:
    """The glob and pattern of the files in folders, from those of the folders with an ending."""
    if found is None:
        return None
    return {
        "glob": found["glob"].removesuffix(".dcm") + "/*.dcm",
        "pattern": found["pattern"].removesuffix(r"\.dcm") + r"/[^/]+\.dcm",
    }
