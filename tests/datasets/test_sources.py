"""Catalog entries of other people's forms; what they read is tested with `segmentation.formats`."""

import json

import cv2
import fsspec
import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError

from seg_pipeline.datasets.coco import CocoDataset
from seg_pipeline.datasets.label_tools import LabelToolDataset
from seg_pipeline.datasets.volumes import NnunetDataset, VolumeDataset
from seg_pipeline.segmentation.formats.fetched import HEAD
from seg_pipeline.segmentation.images import decoding
from seg_pipeline.segmentation.phantom import write_example

SMALL = {"num_cases": 1, "days_per_case": 1, "frames_per_series": [3, 3], "size": 64}
PATTERN = {"glob": "images/*", "pattern": r"images/(?P<series>.+)\.nii\.gz"}
LABELS = {"glob": "labels/*", "pattern": r"labels/(?P<series>.+)\.nii\.gz"}


def volumes(folder, part="images", **more):
    settings = {"images": PATTERN, "labels": LABELS, "slices": {"path": str(folder / "slices")}, **more}
    return VolumeDataset(filepath=str(folder / "raw"), part=part, **settings)


def test_coco_gives_its_annotations_and_a_preview(tmp_path):
    write_example(tmp_path / "raw", layout="coco", **SMALL)
    entry = {
        "type": "seg_pipeline.datasets.coco.CocoDataset",
        "filepath": str(tmp_path / "raw/annotations.json"),
        "images": "images",
    }
    table = DataCatalog.from_config({"raw_metadata": entry}).load("raw_metadata")
    assert table["image_id"].nunique() == 3
    assert table["problem"].isna().all()
    dataset = CocoDataset(filepath=entry["filepath"], images="images")
    assert len(json.loads(json.dumps(dataset.preview(nrows=2)))["data"]) == 2
    assert dataset.exists()
    assert not CocoDataset(filepath=str(tmp_path / "gone.json")).exists()


def test_volumes_give_images_and_annotations_from_one_cut(tmp_path):
    write_example(tmp_path / "raw", layout="nifti", **SMALL)
    images = volumes(tmp_path).load()
    assert images["image_id"].tolist() == [f"case1_day0_{frame:04d}" for frame in range(3)]
    annotations = volumes(tmp_path, "annotations").load()
    assert set(annotations["image_id"]) == set(images["image_id"])
    assert set(annotations["class"]) <= {"1", "2", "3", "(none)"}
    assert len(list((tmp_path / "slices").rglob("*.png"))) == 3
    assert len(volumes(tmp_path).preview(nrows=2)["data"]) == 2


def test_nnunet_names_its_classes_and_needs_its_json(tmp_path):
    write_example(tmp_path / "raw", layout="nnunet", **SMALL)
    entry = {"filepath": str(tmp_path / "raw"), "slices": {"path": str(tmp_path / "slices"), "axis": "coronal"}}
    dataset = NnunetDataset(part="annotations", metadata={"kedro-viz": {"layer": "raw"}}, **entry)
    assert dataset._describe()["filepath"] == str(tmp_path / "raw")  # which Kedro-Viz shows
    assert "metadata" not in str(dataset)
    assert dataset.exists()
    table = dataset.load()
    assert set(table["class"]) <= {"large_bowel", "small_bowel", "stomach", "(none)"}
    assert table["image_id"].nunique() == 64  # rows of a frame
    (tmp_path / "raw/dataset.json").unlink()
    assert not dataset.exists()


@pytest.mark.parametrize("dataset", [CocoDataset, volumes])
def test_raw_data_is_not_written(tmp_path, dataset):
    one = dataset(tmp_path) if dataset is volumes else CocoDataset(filepath=str(tmp_path / "a.json"))
    with pytest.raises(DatasetError, match="raw data is read-only; cannot save data of type int"):
        one.save(1)


def test_settings_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`crowd` must be with_class or apart, found 'drop'"):
        CocoDataset(filepath="a.json", crowd="drop")
    with pytest.raises(ValueError, match="`part` must be annotations or images, found 'masks'"):
        volumes(tmp_path, "masks")


def test_coco_splits_need_a_file_per_split(tmp_path):
    with pytest.raises(ValueError, match="`part: splits` needs `splits`: the JSON file and the image folder of each"):
        CocoDataset(filepath="a.json", part="splits")
    with pytest.raises(ValueError, match="`invalid_annotations` must be drop_image or drop_annotation, found 'keep'"):
        CocoDataset(filepath="a.json", invalid_annotations="keep")


def test_volumes_of_which_none_can_be_used_stop_with_the_reason(tmp_path):
    write_example(tmp_path / "raw", layout="nifti", **SMALL)
    for path in (tmp_path / "raw/labels").iterdir():
        path.write_bytes(b"")
    with pytest.raises(
        DatasetError, match=r"none of its 1 cases can be used; the first: .*not a NIfTI file, or truncated"
    ):
        volumes(tmp_path, "annotations").load()


def test_nnunets_label_values_can_be_given(tmp_path):
    write_example(tmp_path / "raw", layout="nnunet", **SMALL)
    entry = {"filepath": str(tmp_path / "raw"), "slices": {"path": str(tmp_path / "slices")}}
    table = NnunetDataset(part="annotations", values={"stomach": [1, 3], "large_bowel": 9}, **entry).load()
    assert set(table["class"]) <= {"small_bowel", "stomach", "(none)"}


@pytest.fixture
def bucket(monkeypatch):
    """Puts a folder at memory://bucket; no wait between attempts."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    monkeypatch.setattr(decoding, "WAITS", (0, 0))

    def put(folder):
        for path in folder.rglob("*"):
            if path.is_file():
                system.pipe(f"/bucket/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return system

    return put


def entry_of(layout, root, outputs):
    """The annotations of a data set in one of the forms, from a folder or an address."""
    if layout in ("nifti", "nnunet"):
        settings = {"part": "annotations", "slices": {"path": str(outputs / "slices")}}
        names = {"images": PATTERN, "labels": LABELS} if layout == "nifti" else {}
        return (VolumeDataset if names else NnunetDataset)(filepath=str(root), **names, **settings)
    fetched = str(outputs / "fetched")
    if layout == "coco":
        return CocoDataset(filepath=f"{root}/annotations.json", images="images", fetched=fetched)
    if layout == "coco splits":
        splits = {"train": {"file": "annotations.json", "images": "images"}}
        return CocoDataset(filepath=str(root), splits=splits, fetched=fetched)
    path = f"{root}/cvat.xml" if layout == "cvat" else str(root)
    return LabelToolDataset(filepath=path, tool=layout, images="images" if layout == "cvat" else ".", fetched=fetched)


def write_shapes(folder):
    """Two photos with noise, larger than what is read of them for their size, and their shapes in two tools' forms."""
    (folder / "images").mkdir(parents=True)
    rows, shape = [], {"label": "cell", "shape_type": "polygon", "points": [[2, 3], [30, 3], [30, 20]]}
    for number, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(number).integers(0, 255, (200, 400, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / name), pixels)
        drawn = f'<polygon label="cell" points="2,{number};30,3;30,20"/>'
        rows.append(f'<image name="{name}" height="200" width="400">{drawn}</image>')
        document = {"imagePath": name, "imageHeight": 200, "imageWidth": 400 + number, "shapes": [shape]}
        (folder / "images" / name).with_suffix(".json").write_text(json.dumps(document))
    (folder / "cvat.xml").write_text(f"<annotations>{''.join(rows)}</annotations>")


@pytest.mark.parametrize("layout", ["nifti", "nnunet", "coco", "coco splits", "cvat", "labelme"])
def test_an_address_gives_the_table_of_the_folder(tmp_path, bucket, layout):
    raw = tmp_path / "raw"
    if layout in ("cvat", "labelme"):
        write_shapes(raw)
    else:
        write_example(raw, layout=layout.partition(" ")[0], **SMALL)
    expected = entry_of(layout, raw, tmp_path / "local").load()
    bucket(raw)
    dataset = entry_of(layout, "memory://bucket", tmp_path / "far")
    assert dataset.exists()
    pd.testing.assert_frame_equal(dataset.load(), expected)
    assert not entry_of(layout, "memory://elsewhere", tmp_path / "far").exists()


def test_of_images_that_annotations_name_only_the_head_is_fetched(tmp_path, bucket):
    write_shapes(tmp_path / "raw")
    bucket(tmp_path / "raw")
    assert len(entry_of("cvat", "memory://bucket", tmp_path).load()) == 2
    assert (tmp_path / "fetched/memory/bucket/images/a.png").stat().st_size == HEAD


def test_only_changed_files_are_fetched_again(tmp_path, bucket):
    write_example(tmp_path / "raw", layout="coco", **SMALL)
    system = bucket(tmp_path / "raw")
    dataset = entry_of("coco", "memory://bucket", tmp_path)
    dataset.load()
    copies = tmp_path / "fetched/memory/bucket"
    before = {path: path.stat().st_ino for path in copies.rglob("*") if path.is_file()}
    assert len(before) == 4  # three images
    image = sorted(system.find("/bucket/images"))[0]
    system.rm_file(image)
    content = json.loads(system.cat_file("/bucket/annotations.json"))
    content["categories"][0]["name"] = "renamed"
    system.pipe("/bucket/annotations.json", json.dumps(content).encode())
    assert "renamed" in set(dataset.load()["class"])
    after = {path: path.stat().st_ino for path in copies.rglob("*") if path.is_file()}
    assert {path for path in before if after.get(path) != before[path]} == {
        copies / "annotations.json",
        copies / image.removeprefix("/bucket/"),
    }


def failing(monkeypatch, system, ending, errors):
    """Files with this ending cannot be fetched until all ``errors`` are used."""
    fetch = type(system).get_file

    def get_file(self, path, *args, **options):
        if path.endswith(ending) and errors:
            raise errors.pop()
        return fetch(self, path, *args, **options)

    monkeypatch.setattr(type(system), "get_file", get_file)


def test_a_volume_that_cannot_be_fetched_costs_retries_and_then_its_case(tmp_path, bucket, monkeypatch):
    write_example(tmp_path / "raw", layout="nifti", **SMALL | {"num_cases": 2})
    system = bucket(tmp_path / "raw")
    expected = entry_of("nifti", tmp_path / "raw", tmp_path / "local").load()
    failing(monkeypatch, system, "labels/case1_day0.nii.gz", [OSError(5, "slow down")] * 2)
    dataset = entry_of("nifti", "memory://bucket", tmp_path / "far")
    pd.testing.assert_frame_equal(dataset.load(), expected)
    failing(monkeypatch, system, "labels/case1_day0.nii.gz", [OSError(5, "slow down")] * 3)
    system.pipe("/bucket/labels/case1_day0.nii.gz", system.cat_file("/bucket/labels/case1_day0.nii.gz"))  # changed
    dataset._part = "images"
    images = dataset.load()
    told = images.loc[images["problem"].notna(), "problem"].tolist()
    assert told == ["memory://bucket/labels/case1_day0.nii.gz: cannot be read: slow down"]
    assert set(images["series"].dropna()) == {"case2_day0"}
    assert dataset.load()["problem"].isna().all()  # asked for again


def test_annotations_that_cannot_be_fetched_stop_the_run(tmp_path, bucket, monkeypatch):
    write_shapes(tmp_path / "raw")
    system = bucket(tmp_path / "raw")
    failing(monkeypatch, system, "a.json", [OSError(5, "slow down")] * 3)
    with pytest.raises(DatasetError, match=r"memory://bucket/images/a\.json: cannot be read: slow down"):
        entry_of("labelme", "memory://bucket", tmp_path).load()
    with pytest.raises(DatasetError, match=r"memory://bucket/cvat\.json: no such file or folder; check the address"):
        LabelToolDataset(filepath="memory://bucket/cvat.json", tool="via", fetched=str(tmp_path)).load()
