import json

import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.formats.nnunet import plan_raw, write_raw
from seg_pipeline.segmentation.formats.volume_cases import name_classes, read_nnunet
from seg_pipeline.segmentation.formats.volumes import Cutting, index_volumes
from seg_pipeline.segmentation.images.decoding import read_image, read_values
from seg_pipeline.segmentation.images.masks import decode_rle
from seg_pipeline.segmentation.manifest.table import read_masks


def images(folder, *rows, channels=1, **columns):
    """A manifest of images 2 x 3 with masks a, b and ignore."""
    table = []
    for number, (image_id, split, a, b, ignore) in enumerate(rows):
        path = folder / f"{number}.png"
        image = np.full((2, 3, channels), 7 + number, dtype=np.uint8)
        image[0, 0] = np.arange(channels) * 20 + 1
        cv2.imwrite(str(path), image[..., ::-1])
        about = {"image_id": image_id, "split": split, "path": str(path), "height": 2, "width": 3}
        table.append({**about, "channels": channels, "mask_a": a, "mask_b": b, "ignore": ignore})
    return pd.DataFrame(table).assign(**columns)


def exported(folder, manifest, **settings):
    plan = plan_raw(manifest, **{"name": "test", "overlap": "regions", **settings})
    write_raw(folder, plan)
    return json.loads((folder / "dataset.json").read_text())


def test_labels_images_and_splits_by_hand(tmp_path):
    rows = (("case/1", "train", "1 2", "6 1", ""), ("i2", "val", "", "", ""), ("i3", "test", "", "4 1", ""))
    content = exported(tmp_path / "raw", images(tmp_path, *rows))
    assert content == {
        "name": "test",
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": 2,
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    files = sorted(path.relative_to(tmp_path / "raw").as_posix() for path in (tmp_path / "raw").rglob("*.png"))
    assert files == [
        *("imagesTr/case_1_0000.png", "imagesTr/i2_0000.png", "imagesTs/i3_0000.png"),
        *("labelsTr/case_1.png", "labelsTr/i2.png", "labelsTs/i3.png"),
    ]
    assert read_values(tmp_path / "raw/labelsTr/case_1.png").tolist() == [[1, 1, 0], [0, 0, 2]]
    assert read_image(tmp_path / "raw/imagesTr/i2_0000.png").tolist() == [[1, 8, 8], [8, 8, 8]]
    splits = json.loads((tmp_path / "raw/splits_final.json").read_text())
    assert splits == [{"train": ["case_1"], "val": ["i2"]}]


def test_shared_pixels_become_labels_of_their_own_and_classes_regions(tmp_path):
    content = exported(tmp_path / "raw", images(tmp_path, ("i1", "train", "1 2", "2 2", "4 1")))
    assert content["labels"] == {"background": 0, "a": [1, 3], "b": [2, 3], "ignore": 4}
    assert content["regions_class_order"] == [1, 2]
    assert read_values(tmp_path / "raw/labelsTr/i1.png").tolist() == [[1, 3, 2], [4, 0, 0]]


def test_shared_pixels_may_be_painted_which_is_said(tmp_path, caplog):
    manifest = images(tmp_path, ("i1", "train", "1 2", "2 2", ""))
    content = exported(tmp_path / "raw", manifest, overlap="paint")
    assert content["labels"] == {"background": 0, "a": 1, "b": 2}
    assert "regions_class_order" not in content
    assert read_values(tmp_path / "raw/labelsTr/i1.png").tolist() == [[1, 2, 2], [0, 0, 0]]
    warnings = [one.message for one in caplog.records if one.levelname == "WARNING"]
    assert warnings == ["nnU-Net: 1 pixels of several classes got the label of the last of them"]


def test_colours_stay_red_green_blue(tmp_path):
    content = exported(tmp_path / "raw", images(tmp_path, ("i1", "train", "", "", ""), channels=3))
    assert content["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert read_image(tmp_path / "raw/imagesTr/i1_0000.png")[0, 0].tolist() == [1, 21, 41]


def test_folds_follow_our_own_split(tmp_path):
    rows = [(f"i{number}", "test" if number == 3 else "train", "", "", "") for number in range(4)]
    plan = plan_raw(images(tmp_path, *rows, fold=[0, 1, 1, -1]), name="test", overlap="regions")
    assert plan["splits_final"] == [
        {"train": ["i0", "i1", "i2"], "val": []},
        {"train": ["i1", "i2"], "val": ["i0"]},
        {"train": ["i0"], "val": ["i1", "i2"]},
    ]


def test_what_is_written_is_read_back_as_it_was(tmp_path):
    """The layout's reader gives the masks of the manifest, shared and unknown pixels included."""
    manifest = images(tmp_path, ("i1", "train", "1 2", "2 2", "4 1"), ("i2", "val", "", "3 1", ""))
    exported(tmp_path / "raw", manifest)
    cases, names = read_nnunet(tmp_path / "raw")
    _, annotations = index_volumes(cases, tmp_path / "store", Cutting())
    for row in manifest.to_dict("records"):
        found = np.zeros((3, 2, 3), dtype=bool)
        for one in name_classes(annotations, names).dropna().to_dict("records"):
            if one["image_id"] == row["image_id"]:
                found[["a", "b", "ignore"].index(one["class"])] |= decode_rle(one["mask"], (2, 3), order="C")
        np.testing.assert_array_equal(found[:2], read_masks(row, ["a", "b"]) == 1)
        np.testing.assert_array_equal(found[2], decode_rle(row["ignore"], (2, 3), order="C"))


@pytest.mark.fault(
    scenario="a folder of other data as export folder",
    command="kedro run --pipeline export_nnunet",
    outcome="refused; nothing is deleted",
    review="data 15",
)
def test_an_export_is_replaced_and_other_things_are_not(tmp_path):
    manifest = images(tmp_path, ("i1", "train", "", "", ""))
    exported(tmp_path / "raw", manifest)
    exported(tmp_path / "raw", manifest.assign(image_id="other"))
    assert [path.name for path in (tmp_path / "raw/imagesTr").iterdir()] == ["other_0000.png"]
    (tmp_path / "mine/labelsTr").mkdir(parents=True)
    for name in ("dataset.json", "labelsTr/i1.png"):
        (tmp_path / "mine" / name).touch()
    with pytest.raises(
        ValueError, match=r"mine holds files that no export has written, as it has no written_by_seg_pi"
    ):
        exported(tmp_path / "mine", manifest)
    assert (tmp_path / "mine/labelsTr/i1.png").exists()


@pytest.mark.fault(
    scenario="killed in an export to nnU-Net",
    command="kedro run --pipeline export_nnunet",
    outcome="can be repeated",
    review="data 15",
)
def test_an_interrupted_export_is_repeated_and_foreign_files_beside_it_stay(tmp_path, monkeypatch):
    manifest = images(tmp_path, ("i1", "train", "", "", ""), ("i2", "test", "", "", ""))
    plan = plan_raw(manifest, name="test", overlap="regions")
    with monkeypatch.context() as patched:
        patched.setattr("seg_pipeline.segmentation.formats.nnunet.write_png", lambda path, _: path.touch() or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_raw(tmp_path / "raw", plan)
    (tmp_path / "raw/imagesTr/mine.png").touch()
    exported(tmp_path / "raw", manifest[manifest["image_id"] == "i2"])
    files = {path.relative_to(tmp_path / "raw").as_posix() for path in (tmp_path / "raw").rglob("*.png")}
    assert files == {"imagesTr/mine.png", "imagesTs/i2_0000.png", "labelsTs/i2.png"}


def test_a_class_called_background_is_label_0_and_one_called_ignore_counts(tmp_path):
    manifest = images(tmp_path, ("i1", "train", "1 4", "5 1", "6 1"))
    manifest = manifest.rename(columns={"mask_a": "mask_background", "mask_b": "mask_ignore"})
    content = exported(tmp_path / "raw", manifest)
    assert content["labels"] == {"background": 0, "class_ignore": 1, "ignore": 2}
    assert read_values(tmp_path / "raw/labelsTr/i1.png").tolist() == [[0, 0, 0], [0, 1, 2]]
    with pytest.raises(ValueError, match="nnU-Net needs a class besides the background"):
        exported(tmp_path / "raw", manifest.drop(columns="mask_ignore"))


@pytest.mark.parametrize(("both", "expected"), [("", [[1, 1, 3], [3, 3, 3]]), ("1 1", [[4, 4, 4], [4, 4, 4]])])
def test_a_class_that_is_not_annotated_is_ignored_where_it_may_be(tmp_path, both, expected):
    """Where classes may overlap, it may be under the others too."""
    content = exported(
        tmp_path / "raw", images(tmp_path, ("i1", "train", "1 2", "?", ""), ("i2", "val", both, both, ""))
    )
    assert content["labels"]["ignore"] == np.max(expected)
    assert read_values(tmp_path / "raw/labelsTr/i1.png").tolist() == expected


def test_images_that_differ_in_channels_are_refused(tmp_path):
    manifest = images(tmp_path, ("i1", "train", "", "", ""), ("i2", "train", "", "", "")).assign(channels=[1, 3])
    with pytest.raises(ValueError, match="nnU-Net needs the same number of channels in all images, found"):
        plan_raw(manifest, name="test", overlap="regions")


def test_names_that_would_be_one_are_refused(tmp_path):
    manifest = images(tmp_path, ("a/1", "train", "", "", ""), ("a_1", "train", "", "", ""))
    with pytest.raises(ValueError, match="images would have the same name in nnU-Net: a/1, a_1"):
        plan_raw(manifest, name="test", overlap="regions")
