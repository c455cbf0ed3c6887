"""What is written is read back by the usual readers, and is equal."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from seg_pipeline.segmentation.formats.label_tools import Style
from seg_pipeline.segmentation.images.masks import decode_rle, encode_rle
from seg_pipeline.segmentation.inference import outputs
from seg_pipeline.segmentation.inference.annotations import annotate
from seg_pipeline.segmentation.inference.class_folders import class_folders
from seg_pipeline.segmentation.prediction.bundle import Bundle

SHAPE = (5, 7)


@pytest.mark.parametrize(("tools", "refused"), [(["cvat", "labelme"], True), (["cvat", "coco"], False)])
def test_two_images_never_share_an_annotation_file(tmp_path, bundle, tools, refused):
    classes = {name: ["", 0] for name in bundle.classes}
    files = ["b/a.jpg", "a.png", "b/a.png"]
    records = [{"image_id": file, "file": file, "height": 5, "width": 7, "classes": classes} for file in files]
    table = pd.DataFrame({"image_id": files, "path": files})
    if refused:
        with pytest.raises(
            ValueError, match=r"b/a\.jpg and b/a\.png would share one file of labelme, which have a file"
        ):
            annotate(tools, tmp_path, records, table, bundle, Style(), "reference")
        return
    annotate(tools, tmp_path, records, table, bundle, Style(), "reference")
    assert [one["file_name"] for one in json.loads((tmp_path / "coco.json").read_text())["images"]] == files


@pytest.fixture
def masks():
    drawn = np.zeros((2, *SHAPE), dtype=bool)
    drawn[0, 1:3, 2:6] = True
    drawn[1, 3:, :2] = True
    return drawn


@pytest.fixture
def bundle(bundle_folder):
    return Bundle.read(bundle_folder)


def record_of(masks, image_id="a/b"):
    of = {
        name: [encode_rle(mask, order="C"), int(mask.sum()), 0.75, 0.9]
        for name, mask in zip(("box", "disc"), masks, strict=True)
    }
    about = {"image_id": image_id, "file": f"{image_id}.png", "height": 5, "width": 7}
    return {**about, "uncertainty": 0.25, "look_at_this": True, "classes": of}


def test_exclusive_classes_are_one_palette_image(tmp_path, masks, bundle):
    outputs.write_masks(tmp_path, "a/b", masks, replace(bundle, task="multiclass"))
    image = Image.open(tmp_path / "masks" / "a" / "b.png")
    values = np.array(image)
    assert image.mode == "P"
    np.testing.assert_array_equal(np.stack([values == 1, values == 2]), masks)
    assert image.getpalette()[:9] == [0, 0, 0, 0xE6, 0x9F, 0x00, 0x56, 0xB4, 0xE9]


def test_overlapping_classes_have_a_file_each(tmp_path, masks, bundle):
    masks[1] |= masks[0]
    outputs.write_masks(tmp_path, "a/b", masks, bundle)
    read = [cv2.imread(str(tmp_path / "masks" / name / "a" / "b.png"), cv2.IMREAD_UNCHANGED) for name in bundle.classes]
    np.testing.assert_array_equal(np.stack(read), masks * 255)


@pytest.mark.fault(
    scenario="class names that are equal as folder names",
    command="seg-pipeline predict",
    outcome="each class has a folder of its own",
    review="serving 15",
)
@pytest.mark.parametrize(
    ("classes", "folders"),
    [
        (["box", "disc"], ["box", "disc"]),
        (["a/b", "a b"], ["a_b_1", "a_b_2"]),
        (["../x", "X"], ["___x", "X"]),
        (["a b", "a_b", "a_b_1", "A b"], ["a_b_2", "a_b_3", "a_b_1", "A_b_4"]),
    ],
)
def test_class_names_become_folders(classes, folders):
    assert class_folders(classes) == folders


@pytest.mark.fault(
    scenario="file names that a spreadsheet would run",
    command="seg-pipeline predict",
    outcome="neutralised in the CSV tables",
)
def test_a_spreadsheet_runs_nothing_and_the_text_can_be_had_back():
    names = ["=cmd.png", "+1", "-1.png", "@a", "'b", "c=1", "\t=d"]
    table = pd.DataFrame({"file": names, "area": [-1, 2, 3, 4, 5, 6, 7]})
    safe = outputs.without_formulas(table)
    assert safe["file"].tolist() == ["'=cmd.png", "'+1", "'-1.png", "'@a", "''b", "c=1", "'\t=d"]
    assert safe["file"].str.removeprefix("'").tolist() == names
    assert safe["area"].tolist() == table["area"].tolist()


@pytest.mark.parametrize("order", ["C", "F"])
def test_run_lengths_are_in_the_order_declared(masks, order):
    masks[1] = False
    table = outputs.rle_table([record_of(masks)], order)
    assert list(table) == ["id", "class", "predicted"]
    assert table[["id", "class"]].to_numpy().tolist() == [["a/b", "box"], ["a/b", "disc"]]
    np.testing.assert_array_equal(decode_rle(table["predicted"][0], SHAPE, order=order), masks[0])
    assert table["predicted"][1] == ""


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on numpy 2
def test_coco_is_read_by_its_own_tools(tmp_path, masks):
    masks[0, 0, 0] = True  # a run that begins with the first pixel
    empty = np.zeros_like(masks)
    outputs.write_coco(tmp_path / "coco.json", [record_of(empty, "e"), record_of(masks)], ["box", "disc"])
    content = json.loads((tmp_path / "coco.json").read_text())
    assert content["images"][1] == {"id": 2, "file_name": "a/b.png", "height": 5, "width": 7}
    assert content["categories"] == [{"id": 1, "name": "box"}, {"id": 2, "name": "disc"}]
    assert [(one["image_id"], one["category_id"]) for one in content["annotations"]] == [(2, 1), (2, 2)]
    for one, mask in zip(content["annotations"], masks, strict=True):
        packed = coco_masks.frPyObjects(one["segmentation"], *SHAPE)
        np.testing.assert_array_equal(coco_masks.decode(packed), mask)
        assert (coco_masks.area(packed), coco_masks.toBbox(packed).tolist()) == (one["area"], one["bbox"])


def test_the_table_of_areas_by_hand(masks):
    record = record_of(masks)
    record["classes"]["disc"] = ["", 0, None, 0.2]
    table = outputs.area_table([record])
    expected = pd.DataFrame(
        [
            ["a/b", "a/b.png", 5, 7, "box", 8, 8 / 35, 0.75, 0.9, 0.25, True],
            ["a/b", "a/b.png", 5, 7, "disc", 0, 0.0, np.nan, 0.2, 0.25, True],
        ],
        columns=outputs.TABLE_COLUMNS,
    ).astype({"look_at_this": "boolean"})
    assert outputs.without_formulas(table)["look_at_this"].tolist() == [True, True]
    pd.testing.assert_frame_equal(table, expected)


def test_an_uncertainty_map_goes_from_0_to_255(tmp_path):
    outputs.write_map(tmp_path, "a/b", "uncertainty", np.array([[0, 0.2, 1]], dtype=np.float32))
    read = cv2.imread(str(tmp_path / "uncertainty" / "a" / "b.png"), cv2.IMREAD_UNCHANGED)
    assert read.tolist() == [[0, 51, 255]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_overlay_shows_the_classes_colours(tmp_path, masks, bundle, dtype):
    image = (np.arange(35).reshape(SHAPE) * 6).astype(dtype)
    outputs.write_overlay(tmp_path, "a/b", image, masks, bundle)
    drawn = cv2.imread(str(tmp_path / "overlays" / "a" / "b.png"))[..., ::-1]
    assert drawn.shape == (5, 7, 3)
    assert drawn[1, 2].tolist() == [0xE6, 0x9F, 0x00]  # outline of the first class
    assert len(set(drawn[0, 0].tolist())) == 1  # grey where there is none
