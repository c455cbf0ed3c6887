"""Each form of data, from its environment's example to the manifest: all forms give one truth."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from seg_pipeline.segmentation.manifest.table import read_masks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CLASSES = ["large_bowel", "small_bowel", "stomach"]
LAYOUTS = ["rle_columns", "folders", "colours", "instances", "coco", "nifti", "nnunet"]


def process(env: str, folder: Path, **given) -> pd.DataFrame:
    """The manifest that the environment makes of its example, drawn small, a row a frame of a series."""
    bootstrap_project(ROOT)
    params = {"data_root": str(folder / "out"), "raw_root": str(folder / "raw"), "tracking": {"enabled": False}}
    with KedroSession.create(ROOT, env=env, runtime_params={**params, **given}) as session:
        session.run(pipeline_names=["data_processing"])
    manifest = pd.read_parquet(folder / "out" / "05_model_input" / "manifest.parquet")
    manifest["place"] = manifest.groupby("series")["frame"].rank().astype(int)
    return manifest.sort_values(["series", "place"], ignore_index=True)


@pytest.fixture(scope="module")
def manifests(tmp_path_factory) -> dict[str, pd.DataFrame]:
    from seg_pipeline.segmentation.phantom import write_example

    made = {}
    for form in LAYOUTS:
        folder = tmp_path_factory.mktemp(form)
        settings = {"num_cases": 6, "days_per_case": 1, "frames_per_series": [8, 10]}  # as in conf/
        write_example(folder / "raw", layout=form, **settings)
        made[form] = process(form, folder)
    return made


def masks_of(manifest: pd.DataFrame) -> list[np.ndarray]:
    return [read_masks(row, CLASSES).astype(bool) for row in manifest.to_dict("records")]


@pytest.mark.parametrize("form", LAYOUTS)
def test_every_image_of_every_form_is_there_with_its_pixels(manifests, form):
    manifest, other = manifests[form], manifests["rle_columns"]
    assert manifest["content_hash"].tolist() == other["content_hash"].tolist()
    assert manifest[["series", "group"]].equals(other[["series", "group"]])
    assert set(manifest["dtype"]) == {"uint16"}


@pytest.mark.parametrize("form", ["instances", "coco"])
def test_masks_that_may_overlap_are_equal_and_each_object_counts(manifests, form):
    manifest, other = manifests[form], manifests["rle_columns"]
    for name in CLASSES:  # of coco, the stomach's are polygons
        assert manifest[f"mask_{name}"].tolist() == other[f"mask_{name}"].tolist()
    components, objects = (table.filter(like="objects_").sum().tolist() for table in (other, manifest))
    assert objects == manifests["instances"].filter(like="objects_").sum().tolist()
    assert all(more > fewer for more, fewer in zip(objects, components, strict=True))  # cut in two, they touch
    for name in CLASSES:
        maps = manifest[f"object_map_{name}"].str.split().map(lambda runs: len(set(runs[2::3])))
        assert maps.tolist() == manifest[f"objects_{name}"].tolist()


@pytest.mark.parametrize("form", ["folders", "colours", "nifti", "nnunet"])
def test_one_label_a_pixel_gives_the_last_of_the_classes_that_share_it(manifests, form):
    shared = 0
    for found, truth in zip(masks_of(manifests[form]), masks_of(manifests["rle_columns"]), strict=True):
        later = np.stack([truth[number + 1 :].any(axis=0) for number in range(3)])
        np.testing.assert_array_equal(found, truth & ~later)
        shared += int((truth & later).sum())
    assert shared > 0


def test_volumes_bring_spacing_and_how_their_values_were_kept(manifests):
    for form in ("nifti", "nnunet"):
        row = manifests[form].iloc[0]
        assert row[["spacing_z", "spacing_y", "spacing_x"]].tolist() == [3.0, 1.5, 1.5]
        assert row[["slope", "intercept", "clipped_pixels"]].tolist() == [1.0, 0.0, 0]


@pytest.mark.parametrize(("order", "first"), [("C", 0), ("C", 1), ("F", 1)])
def test_run_lengths_of_either_order_and_base_end_in_one_manifest(tmp_path, manifests, order, first):
    from seg_pipeline.segmentation.images.masks import encode_rle
    from seg_pipeline.segmentation.phantom import write_example

    write_example(tmp_path / "raw", layout="rle_columns", num_cases=6, days_per_case=1, frames_per_series=[8, 10])
    given, rows = manifests["rle_columns"], []
    for row, masks in zip(given.to_dict("records"), masks_of(given), strict=True):
        for name, mask in zip(CLASSES, masks, strict=True):
            runs = np.array(encode_rle(mask, order=order).split(), dtype=int)
            runs[::2] += first - 1
            rows.append((row["image_id"], name, " ".join(map(str, runs))))
    pd.DataFrame(rows, columns=["ImageId", "ClassId", "EncodedPixels"]).to_csv(tmp_path / "raw/masks.csv", index=False)
    declared = {"annotations": {"rle_order": order, "rle_first": first}}
    found = process("rle_columns", tmp_path, data_processing=declared)
    pd.testing.assert_frame_equal(found.drop(columns="path"), given.drop(columns="path"))


def test_what_a_source_cannot_use_is_a_finding_and_all_adds_up(tmp_path):
    from seg_pipeline.segmentation.phantom import write_example

    settings = {"num_cases": 6, "days_per_case": 1, "frames_per_series": [8, 10]}
    for form in ("coco", "nnunet"):
        write_example(tmp_path / form / "raw", layout=form, **settings)
    path = tmp_path / "coco/raw/annotations.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    path.write_text(json.dumps(content))
    (tmp_path / "nnunet/raw/labelsTr/case3_day0.nii.gz").unlink()
    (tmp_path / "nnunet/raw/imagesTr/case4_day0_0000.nii.gz").write_bytes(b"hello")
    lost = {}
    for form in ("coco", "nnunet"):
        manifest = process(form, tmp_path / form)
        findings = pd.read_parquet(tmp_path / form / "out" / "08_reporting" / "findings.parquet")
        lost[form] = findings.loc[findings["action"] == "dropped", "rule"].value_counts().to_dict()
        assert ({"case3", "case4"} <= set(manifest["group"])) == (form == "coco")
    assert lost["coco"].keys() == {"unusable_annotation", "incomplete_annotation"}
    assert lost["nnunet"] == {"unusable_file": 2}
