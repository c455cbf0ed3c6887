"""Models as mlflow keeps them: loaded by its own means, with pickle forbidden."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from seg_pipeline.hooks.tracking import models
from seg_pipeline.segmentation.segmenter import Segmenter

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


def test_the_best_model_takes_any_batch_and_size(recipe, tmp_path, unpickled):
    import mlflow.pyfunc

    torch.manual_seed(3)
    members = [Segmenter(recipe, pretrained=False).eval() for _ in range(2)]  # as of two folds
    saved = [{"recipe": recipe.to_dict(), "model": member.state_dict()} for member in members]
    folder = models.save_checkpoint_model({"members": saved}, tmp_path)
    assert not files_of(folder) & {".pkl", ".pt", ".pth", ".pickle"}
    loaded = mlflow.pyfunc.load_model(str(folder))
    assert str(loaded.metadata.signature.inputs) == "[Tensor('uint8', (-1, 3, -1, -1))]"
    assert str(loaded.metadata.signature.outputs) == "[Tensor('float32', (-1, 2, -1, -1))]"
    rng = np.random.default_rng(0)
    for shape in ((1, 3, 32, 64), (3, 3, 96, 32)):
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        with torch.inference_mode():
            mean = torch.stack([member(torch.from_numpy(images)).sigmoid() for member in members]).mean(0)
        np.testing.assert_allclose(loaded.predict(images), mean.numpy(), atol=1e-6)
