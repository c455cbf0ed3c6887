import json

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from pycocotools.coco import COCO

from seg_pipeline.segmentation.inference import OutputSettings, find_images, object_outputs, predict_folder
from seg_pipeline.segmentation.objects.table import measure_objects
from seg_pipeline.segmentation.prediction.checkpoint_predictor import describe
from seg_pipeline.segmentation.prediction.predict_images import load_models
from seg_pipeline.segmentation.prediction.predictor import ImagePredictor
from seg_pipeline.segmentation.training.state import start

ALL = OutputSettings(formats=("coco",))


@pytest.fixture(scope="module")
def predictor(config):
    """Class "box" is what is brighter than 100, but what is darker than 200 is a gap; there is no disc."""
    import torch

    config = config.changed({"objects": True, "input.resize_mode": "crop", "input.channels": "grey"})
    model = start(config, "", torch.device("cpu")).best_model()
    checkpoint = {"models": [{"config": config.to_dict(), **model}], "data_hash": "d", "folds": None}
    bundle = describe(checkpoint, load_models(checkpoint, torch.device("cpu")))

    def network(images):
        none = np.full(images[:, 0].shape, -9.0, dtype=np.float32)
        bright, no_gap = (np.where(images[:, 0] > limit, np.float32(2), none) for limit in (100, 200))
        return np.stack([bright, none, -no_gap, none], axis=1)

    return ImagePredictor(bundle, [network])


@pytest.fixture
def images(tmp_path):
    """Two touching boxes of 2 x 3 and 2 x 4 pixels, and an image without any."""
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.zeros((34, 40), dtype=np.uint8)
    pixels[10:12, 5:12] = 255
    pixels[10:12, 7] = 150
    cv2.imwrite(str(folder / "a.png"), pixels)
    cv2.imwrite(str(folder / "b.png"), pixels * 0)
    return folder


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_objects_are_written_as_maps_a_table_and_coco(images, predictor, tmp_path):
    out = tmp_path / "out"
    table, _ = find_images(images)
    predict_folder(table.assign(spacing_y=0.5, spacing_x=0.2), predictor, out, settings=ALL)
    labels = cv2.imread(str(out / "objects" / "box" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert labels.dtype == np.uint16
    assert labels[10, 4:13].tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 0]  # the gap falls to the later of two
    rows = pd.read_csv(out / "objects.csv")
    assert rows[["image_id", "class", "object"]].to_numpy().tolist() == [["a", "box", 1], ["a", "box", 2]]
    assert rows["area"].tolist() == [4, 10]
    assert rows["area_mm2"].tolist() == pytest.approx((rows["area"] * 0.1).tolist())
    assert rows.loc[0, ["top", "left", "height"]].tolist() == [10, 5, 2]
    assert rows["confidence"].tolist() == pytest.approx([1 / (1 + np.exp(-2))] * 2, abs=1e-6)
    coco = COCO(str(out / "coco.json"))
    found = coco.loadAnns(coco.getAnnIds(imgIds=1, iscrowd=False))
    assert [one["area"] for one in found] == rows["area"].tolist()
    for number, annotation in enumerate(found, start=1):
        np.testing.assert_array_equal(coco.annToMask(annotation) == 1, labels == number)
    assert coco.getAnnIds(imgIds=2) == []
    assert not cv2.imread(str(out / "objects" / "box" / "b.png"), cv2.IMREAD_UNCHANGED).any()


def test_an_interrupted_run_keeps_what_it_has(images, predictor, tmp_path):
    out, (table, _) = tmp_path / "out", find_images(images)
    predict_folder(table, predictor, out, settings=ALL)
    whole = (out / "objects.csv").read_text()
    (out / "objects" / "box" / "b.png").unlink()
    lines = (out / "images.jsonl").read_text().splitlines()
    assert predict_folder(table, predictor, out, settings=ALL).num_new == 1
    damaged = json.loads(lines[0])
    damaged["objects"]["classes"]["box"] = 5
    (out / "images.jsonl").write_text("\n".join([json.dumps(damaged), lines[1], ""]))
    assert predict_folder(table, predictor, out, settings=ALL).num_new == 1
    assert (out / "objects.csv").read_text() == whole


def test_maps_of_georeferenced_images_and_of_very_many_objects_are_tiff(tmp_path, monkeypatch):
    labels = np.arange(6, dtype=np.int32).reshape(1, 2, 3)
    row = {"path": "x.png"}
    record = {
        "image_id": "x",
        "objects": object_outputs.record_objects(row, labels, labels.astype(np.float32), ["c/d"]),
    }
    assert record["objects"]["mm2"] is None
    assert object_outputs.map_files(record, ["c/d"]) == ["objects/c_d/x.png"]
    assert object_outputs.map_files({**record, "georeferenced": True}, ["c/d"]) == ["objects/c_d/x.tif"]
    monkeypatch.setattr(object_outputs, "MAX_IN_PNG", 4)
    object_outputs.write_maps(tmp_path, record, labels, ["c/d"], ())
    written = tifffile.imread(tmp_path / "objects" / "c_d" / "x.tif")
    assert (written.dtype, written.tolist()) == (np.uint32, labels[0].tolist())


def test_measurements_by_hand():
    labels = np.array([[0, 3, 3], [0, 3, 0], [1, 0, 0]])
    probabilities = np.array([[0, 0.5, 1], [0, 0.6, 0], [0.25, 0, 0]], dtype=np.float32)
    first, third = measure_objects(labels, probabilities)
    assert first == (1, 1, 2, 0, 1, 1, 2.0, 0.0, 0.25)
    assert third[:6] == (3, 3, 0, 1, 2, 2)
    assert third[6:] == pytest.approx((1 / 3, 4 / 3, 0.7))
