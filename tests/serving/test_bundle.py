"""`seg-pipeline serve` with an exported network: the predictor's own masks over HTTP, and a clean end."""

import base64
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.prediction.predictor import Predictor
from seg_pipeline.segmentation.prediction.uncertainty import entropy_map


@pytest.fixture(scope="module")
def address(bundle_folder) -> Iterator[str]:
    command = [sys.executable, "-m", "seg_pipeline", "serve", "--model", str(bundle_folder), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = iter(server.stdout.readline, "")
    address = next(found[1] for line in said if (found := re.search(r"running on (http://\S+)", line)))
    yield address
    server.send_signal(signal.SIGTERM)
    ended = server.communicate(timeout=120)[0]
    assert "Application shutdown complete" in ended
    assert "Traceback" not in ended


@pytest.mark.parametrize("shape", [(40, 48), (33, 90, 3)])
def test_http_gives_the_predictors_masks(address, bundle_folder, shape):
    image = np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)
    data = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()
    predictor = Predictor(bundle_folder, threads=1)
    probabilities = predictor.probabilities(image)
    thresholds = [round(float(np.median(one)), 3) for one in probabilities]
    expected = predictor.masks(probabilities, thresholds)
    assert expected.any((1, 2)).all()
    answer = httpx.post(
        f"{address}/api/predict", files={"image": data}, params={"threshold": thresholds, "include": "uncertainty"}
    ).json()
    assert [one["name"] for one in answer["classes"]] == list(predictor.bundle.classes)
    assert [one["rle"] for one in answer["classes"]] == [encode_rle(mask, order="C") for mask in expected]
    assert [one["area"] for one in answer["classes"]] == expected.sum((1, 2)).tolist()
    assert [one["peak"] for one in answer["classes"]] == pytest.approx(probabilities.max((1, 2)).tolist(), abs=1e-6)
    doubt = predictor.uncertainty(probabilities)
    assert (answer["uncertainty"], answer["look_at_this"]) == (pytest.approx(doubt.score, abs=1e-6), None)
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(answer["uncertainty_map"]["data"]), np.uint8), 0)
    np.testing.assert_allclose(shown / 255, entropy_map(probabilities, "multilabel"), atol=0.5 / 255 + 1e-5)


def test_the_model_tells_of_the_bundle(address, bundle_folder):
    bundle = Predictor(bundle_folder, threads=1).bundle
    model = httpx.get(f"{address}/api/model").json()
    assert [(one["name"], one["colour"]) for one in model["classes"]] == list(
        zip(bundle.classes, bundle.colours, strict=True)
    )
    assert model["postprocessing"] == bundle.postprocessing.to_dict()
    assert model["input"]["size"] == list(bundle.input.size)


@pytest.mark.slow
def test_a_damaged_bundle_is_named(bundle_folder: Path, tmp_path):
    (tmp_path / "bundle.json").write_text("{}")
    command = [sys.executable, "-m", "seg_pipeline", "serve", "--model", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"{tmp_path / 'bundle.json'}: format is" in ended.stderr


@pytest.mark.slow
def test_a_form_that_the_bundle_lacks_is_named(bundle_folder: Path):
    command = [sys.executable, "-m", "seg_pipeline", "serve", "--model", str(bundle_folder), "--bundle-format", "int8"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "has no format 'int8'" in ended.stderr
