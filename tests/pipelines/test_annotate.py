"""The pipelines `annotate` and `inference` on drawn images: what they leave out, they tell."""

import cv2
import numpy as np
import pytest

from seg_pipeline.params import AnnotateParams, InferenceParams
from seg_pipeline.pipelines.annotate.nodes import write_annotations
from seg_pipeline.pipelines.inference.nodes import predict_images
from seg_pipeline.segmentation.settings.training import PredictSettings


@pytest.mark.parametrize("pipeline", ["inference", "annotate"])
def test_skipped_and_unreadable_files_are_told(pipeline, checkpoint, tmp_path, caplog):
    folder = tmp_path / "images"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.full((40, 48), 90, dtype=np.uint8))
    (folder / "b.png").write_bytes(b"no image")
    (folder / "notes.md").touch()
    given = InferenceParams(images=str(folder), num_workers=1, device="cpu", formats=["masks"])
    model = checkpoint, None, None, PredictSettings(), given
    if pipeline == "annotate":
        _, findings = write_annotations(*model, AnnotateParams(tools=["coco"]), tmp_path / "out")
        assert (tmp_path / "out/coco.json").exists()
    else:
        areas, findings = predict_images(*model, tmp_path / "out")
        assert set(areas["image_id"]) == {"a"}
    assert findings["image_id"].tolist() == ["b"]
    place = tmp_path / "out/predicted" if pipeline == "annotate" else tmp_path / "out"
    assert f"1 file of {folder} skipped: no known image suffix" in caplog.messages
    assert f"1 of 2 images could not be predicted; {place / 'findings.csv'} lists the reasons" in caplog.messages


def test_images_must_be_named(checkpoint, tmp_path):
    with pytest.raises(
        ValueError, match=r"`inference\.images` must say what to predict: `--params inference\.images=FOLDER`"
    ):
        predict_images(checkpoint, None, None, PredictSettings(), InferenceParams(), tmp_path)


def test_images_at_addresses_are_copied_beside_their_annotations(checkpoint, tmp_path):
    import fsspec

    image = cv2.imencode(".png", np.full((40, 48), 90, dtype=np.uint8))[1].tobytes()
    fsspec.filesystem("memory").pipe("/to_annotate/deep/a.png", image)
    given = InferenceParams(images="memory://to_annotate", num_workers=1, device="cpu", formats=["masks"])
    model = checkpoint, None, None, PredictSettings(), given
    write_annotations(*model, AnnotateParams(tools=["coco"], images="copy"), tmp_path / "out")
    assert (tmp_path / "out/images/deep/a.png").read_bytes() == image
    with pytest.raises(ValueError, match=r"images: reference, but memory://to_annotate/deep/a.png is not a file of"):
        write_annotations(*model, AnnotateParams(tools=["coco"]), tmp_path / "other")
