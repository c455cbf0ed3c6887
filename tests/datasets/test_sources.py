"""Catalog entries of other people's forms; what they read is tested with `segmentation.formats`."""

import json

import pytest
from kedro.io import DataCatalog, DatasetError

from seg_pipeline.datasets.coco import CocoDataset
from seg_pipeline.datasets.volumes import NnunetDataset, VolumeDataset
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


@pytest.mark.parametrize(
    ("kind", "more", "what"),
    [
        ("coco.CocoDataset", {}, "COCO files"),
        ("volumes.NnunetDataset", {"part": "images", "slices": {"path": "slices"}}, "volumes"),
        ("label_tools.LabelToolDataset", {"tool": "labelme"}, "files of label tools"),
    ],
)
def test_an_address_is_refused_where_only_local_files_are_read(kind, more, what):
    entry = {"type": f"seg_pipeline.datasets.{kind}", "filepath": "s3://bucket/raw", **more}
    with pytest.raises(DatasetError, match=rf"s3://bucket/raw is an address, and {what} are read from local files"):
        DataCatalog.from_config({"raw_metadata": entry}).get("raw_metadata")
