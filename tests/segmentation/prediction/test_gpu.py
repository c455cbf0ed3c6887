"""Predicting on a GPU. Like ``training/test_gpu.py``: needs no Kedro and no network."""

import pandas as pd
import pytest
import torch

from seg_pipeline.segmentation.prediction.predict_images import predict_each
from seg_pipeline.segmentation.settings.training import PredictSettings
from seg_pipeline.segmentation.training.state import start

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.mark.parametrize("settings", [PredictSettings(), PredictSettings(tta="flips", overlap=0.5)])
def test_a_gpu_predicts_as_the_cpu_does_and_threads_change_no_digit(mixed, config, settings):
    """Of 60 images in many batches: a copy that is read before it has arrived would differ."""
    rows = pd.concat([mixed] * 10, ignore_index=True)
    crops = config.changed({"input.resize_mode": "crop", "classes": ("left", "top")})
    model = start(crops, "", torch.device("cpu")).eval_model.eval()

    def predicted(device, workers):
        options = {"device": torch.device(device), "batch_size": 4, "settings": settings, "workers": workers}
        return list(predict_each([(model.to(device), crops)], rows, lambda _, found: found.clone(), **options))

    cpu, alone, threads = predicted("cpu", 0), predicted("cuda", 0), predicted("cuda", 4)
    assert all(torch.equal(one, other) for one, other in zip(alone, threads, strict=True))
    for one, other in zip(alone, cpu, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)  # TF32
