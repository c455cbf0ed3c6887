"""Models as mlflow keeps them: loaded by its own means, with pickle forbidden."""

import importlib
import pickle
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from seg_pipeline.hooks.tracking import mlflow_models
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.settings.training import InputSettings

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),  # on its own type hints, as it loads
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


@pytest.fixture
def unpickled(monkeypatch):
    """mlflow refuses, and so does pickle itself."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("something was unpickled")

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)


def files_of(folder: Path) -> set[str]:
    return {path.suffix for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_best_model_takes_any_batch_and_size(config, tmp_path, unpickled):
    import mlflow.pyfunc

    torch.manual_seed(3)
    models = [Segmenter(config, pretrained=False).eval() for _ in range(2)]  # as of two folds
    saved = [{"config": config.to_dict(), "model": model.state_dict()} for model in models]
    folder = mlflow_models.save_checkpoint_model({"models": saved}, tmp_path)
    assert not files_of(folder) & {".pkl", ".pt", ".pth", ".pickle"}
    loaded = mlflow.pyfunc.load_model(str(folder))
    assert str(loaded.metadata.signature.inputs) == "[Tensor('uint8', (-1, 3, -1, -1))]"
    assert str(loaded.metadata.signature.outputs) == "[Tensor('float32', (-1, 2, -1, -1))]"
    rng = np.random.default_rng(0)
    for shape in ((1, 3, 32, 64), (3, 3, 96, 32)):
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        with torch.inference_mode():
            mean = torch.stack([model(torch.from_numpy(images)).sigmoid() for model in models]).mean(0)
        np.testing.assert_allclose(loaded.predict(images), mean.numpy(), atol=1e-6)


class Halves:
    """Stands for an exported network: class "left" is the left half of each image, class "bright" what is bright."""

    class bundle:
        classes = ("left", "bright")
        input = InputSettings()

    def __init__(self, folder: Path) -> None:
        assert (folder / "bundle.json").read_text() == "{}"

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        left = np.zeros(image.shape, dtype=np.float32)
        left[:, : image.shape[1] // 2] = 1
        return np.stack([left, (image > 1000).astype(np.float32)])

    def masks(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities > 0.5


@pytest.mark.slow
def test_a_bundle_takes_image_files_and_gives_run_lengths(tmp_path, monkeypatch, unpickled):
    import mlflow.pyfunc

    monkeypatch.setattr("seg_pipeline.segmentation.prediction.predictor.Predictor", Halves)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    folder = mlflow_models.save_bundle_model(tmp_path / "bundle", tmp_path)
    assert not files_of(folder) & {".pkl", ".pickle"}
    loaded = mlflow.pyfunc.load_model(str(folder))
    pixels = np.array([[0, 5000, 0, 0], [0, 0, 0, 3]], dtype=np.uint16)
    file = cv2.imencode(".png", pixels)[1].tobytes()
    rows = loaded.predict(pd.DataFrame({"image": [file, file]}))
    about = {"height": 2, "width": 4}
    left, bright = (
        {"class": "left", **about, "area": 4, "rle": "1 2 5 2"},
        {"class": "bright", **about, "area": 1, "rle": "2 1"},
    )
    expected = [{"image": number, **row} for number in (0, 1) for row in (left, bright)]
    assert rows.to_dict("records") == expected


def test_a_saved_model_names_what_decodes_images(monkeypatch, tmp_path):
    saved = {}
    real = importlib.import_module("mlflow.pyfunc")  # not the stand-in that loads it when it is first used
    monkeypatch.setattr(real, "save_model", lambda _, **given: saved.update(given))
    mlflow_models._save(tmp_path, "bundle_model.py", {}, None, [])
    assert {"imagecodecs", "opencv-python", "tifffile"} <= {one.split("==")[0] for one in saved["pip_requirements"]}
