"""Images of several sizes and kinds, in two series."""

from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import pytest

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest.measure_image import MaskReader
from seg_pipeline.segmentation.manifest.measure_table import measure_images
from seg_pipeline.segmentation.settings.training import PredictSettings

MIXED = [
    # series, frame, shape, dtype
    ("a", 1, (40, 48), np.uint8),
    ("a", 2, (40, 48), np.uint8),
    ("a", 4, (24, 70), np.uint8),  # frame 3 is not there, and this one is of another size
    ("a", 5, (40, 48), np.uint16),
    ("b", 1, (50, 30, 3), np.uint8),
    ("b", 2, (64, 32), np.uint8),
]


@pytest.fixture(scope="session")
def full_size_probabilities() -> Callable:
    """Function that gives the probabilities (K, H, W) that evaluation computes for each row."""
    import torch

    from seg_pipeline.segmentation.prediction.predict_images import predict_each, used_models

    def predicted(rows: pd.DataFrame, checkpoint: dict, settings: PredictSettings | None = None) -> list:
        settings = settings or PredictSettings()
        cpu = torch.device("cpu")
        models = used_models(checkpoint, cpu, settings)
        return list(predict_each(models, rows, lambda _, one: one, device=cpu, batch_size=2, settings=settings))

    return predicted


@pytest.fixture(scope="session")
def mixed(tmp_path_factory) -> pd.DataFrame:
    """A manifest of 6 images of random pixels; the classes overlap, the last image shows none.

    Class "left" is the left third, "top" the upper half, and the truth of the lowest row is not known.
    """
    folder, rng = tmp_path_factory.mktemp("mixed"), np.random.default_rng(3)
    rows, ignored = [], []
    for number, (series, frame, shape, dtype) in enumerate(MIXED):
        path = str(folder / f"{series}{frame}.png")
        cv2.imwrite(path, rng.integers(20, np.iinfo(dtype).max * 0.8, shape).astype(dtype))
        left, top, low = (np.zeros(shape[:2], dtype=bool) for _ in range(3))
        if number < 5:
            left[:, : shape[1] // 3], top[: shape[0] // 2] = True, True
            low[-1] = True
        masks = {"mask_left": [encode_rle(left, order="C")], "mask_top": [encode_rle(top, order="C")]}
        about = {"image_id": f"{series}{frame}", "row": number, "file": f"{series}{frame}.png", "path": path}
        rows.append({**about, "group": series, "series": series, "frame": frame, **masks})
        ignored.append(encode_rle(low, order="C"))
    table, _ = measure_images(pd.DataFrame(rows), MaskReader({"left": "left", "top": "top"}, "rle"))
    return table.assign(ignore=ignored, split="train")
