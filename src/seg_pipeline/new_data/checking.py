"""Run data_processing on some images of a new environment, in a temporary folder."""

import io
import os
import shutil
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from seg_pipeline.new_data.classes import evenly
from seg_pipeline.new_data.fitting import look
from seg_pipeline.new_data.plan import Plan
from seg_pipeline.segmentation.export.quiet import errors_only
from seg_pipeline.segmentation.manifest.table_forms import read_form
from seg_pipeline.segmentation.storage.atomic import ScratchFolder

IMAGES = 20
GROUPS = 3
"""One per split."""
FEW_IMAGE_RULES = ("class_missing_from_split", "fewer_folds")
"""Findings that are expected with so few images."""


def check(env: str, project: Path, conf: Path, plan: Plan) -> dict[str, Any]:
    """Number of images and groups that data_processing was run on, the manifest, the findings; and a sample sheet and
    ``fitting.Facts`` if an image is usable."""
    with ScratchFolder() as folder:
        params = {"data_root": folder}
        if plan.cases:
            params["raw_root"] = str(_some_cases(plan, Path(folder) / "raw"))
        bootstrap_project(project)
        with KedroSession.create(project, env=env, conf_source=str(conf), runtime_params=params) as session:
            assert isinstance(session, KedroSession)
            catalog = session.load_context().catalog
            assert isinstance(catalog, DataCatalog)
            with errors_only(
                "kedro", "kedro.io.data_catalog", "kedro.runner", "seg_pipeline"
            ):  # the summary reports what matters
                images, groups, listed = _trim(catalog)
                SequentialRunner().run(pipelines["data_processing"], catalog)
            findings = catalog["findings"].load()
            told = findings[~findings["rule"].isin(FEW_IMAGE_RULES)]
            manifest = catalog["manifest"].load()
            found = {"images": images, "groups": groups, "listed": listed, "manifest": manifest, "findings": told}
            if len(manifest):  # now: slices of volumes are in the temporary folder
                found |= {"sheet": _sheet(manifest), "facts": look(manifest)}
            return found


def _sheet(manifest: pd.DataFrame) -> bytes:
    """PNG of the images with their masks."""
    from seg_pipeline.segmentation.exploration import sample_sheet

    file = io.BytesIO()
    sample_sheet(manifest.head(IMAGES), note="images tried").savefig(file, format="png", dpi=70)
    return file.getvalue()


def _some_cases(plan: Plan, trial: Path) -> Path:
    """A folder with links to the smallest volumes of ``GROUPS`` groups and to dataset.json."""
    smallest: dict[str, list[Path]] = {}
    pairs = zip(plan.groups, plan.cases, strict=True)
    for group, files in sorted(pairs, key=lambda one: sum(path.stat().st_size for path in one[1])):
        smallest.setdefault(group, files)
    others = list(plan.raw_root.glob("dataset.json"))
    for path in [*chain(*islice(smallest.values(), GROUPS)), *others]:
        target = trial / Path(os.path.relpath(path.absolute(), plan.raw_root.absolute()))
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _link(path.absolute(), target)
    return trial


def _link(path: Path, target: Path) -> None:
    try:
        target.symlink_to(path)
    except OSError:  # Windows, for example, does not let every user create links
        shutil.copyfile(path, target)


def _trim(catalog: DataCatalog) -> tuple[int, int, int]:
    """Keep about ``IMAGES`` images in the catalog's tables; return the numbers of them, of their groups and of all."""
    tables = {name: catalog[name].load() for name in ("raw_metadata", "image_files", "mask_files")}
    given = catalog["params:data_processing"].load()
    form = read_form(
        tables["raw_metadata"],
        mask_format=given.annotations.mask_format,
        columns=given.annotations.columns.model_dump(by_alias=True),
        only_class="",
        patterns=given.annotations.patterns,
        no_mask_values=given.annotations.no_mask_values,
    )
    files, annotated = tables["image_files"], set(form["image_id"].dropna())
    split = pd.Series("", index=files.index)
    if given.split.method == "table" and "predefined_splits" in catalog:
        table = catalog["predefined_splits"].load().drop_duplicates("image_id")
        split = files["image_id"].map(table.set_index("image_id")["split"]).fillna("")
    parts = [some_images(of_split, annotated) for _, of_split in files.groupby(split)]
    unstated = files["image_id"].dropna()[lambda ids: ~ids.isin(annotated)]
    kept = {*(one for part in parts for one in part), *unstated.head(IMAGES // 4)}
    rows = form[form["image_id"].isin(kept)]
    masks = tables["mask_files"]
    trimmed = {
        "raw_metadata": tables["raw_metadata"].iloc[sorted(set(rows["row"] - 2))],
        "image_files": _of(files, "image_id", kept),
        "mask_files": _of(masks, "mask_id", set(rows["mask"])) if "mask_id" in masks else masks,
    }
    for name, table in trimmed.items():
        catalog[name] = MemoryDataset(table.reset_index(drop=True))
    files = trimmed["image_files"].dropna(subset="image_id")
    groups = (files["group"] if "group" in files else files["image_id"]).nunique()
    return len(files), groups, len(tables["image_files"])


def _of(files: pd.DataFrame, column: str, kept: set[str]) -> pd.DataFrame:
    """Files with these ids, and some of those without an id, which become findings."""
    return pd.concat([files[files[column].isin(kept)], files[files[column].isna()].head(IMAGES)]).sort_index()


def some_images(files: pd.DataFrame, annotated: set[str]) -> set[str]:
    """About ``IMAGES`` ids: whole groups if they are small, else consecutive images of ``GROUPS`` groups."""
    files = files[files["image_id"].isin(annotated)]
    group = files["group"] if "group" in files else files["image_id"]
    sizes = group.value_counts(sort=False).sort_values(kind="stable")
    number = min(len(sizes), max(GROUPS, int((sizes.cumsum() <= IMAGES).sum())))
    last = sizes.iloc[number - 1] if number else 0
    smaller = list(sizes.index[sizes < last])
    chosen = smaller + evenly(list(sizes.index[sizes == last]), number - len(smaller))  # names may be sorted by class
    share = max(IMAGES // max(1, len(chosen)), 1)
    kept: set[str] = set()
    for name in chosen:
        of_group = files.loc[group == name, "image_id"].tolist()
        start = max(0, len(of_group) - share) // 2
        kept |= set(of_group if sizes[chosen].sum() <= IMAGES else of_group[start : start + share])
    return kept
