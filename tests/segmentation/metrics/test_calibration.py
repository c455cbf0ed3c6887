import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.manifest import table_schemas
from seg_pipeline.segmentation.metrics.calibration import (
    BINS,
    Calibration,
    before_and_after,
    expected_error,
    last_probabilities,
)


def test_bins_by_hand():
    calibration = Calibration(["a", "b"])
    probabilities = np.array([[[0.01, 0.05, 0.5], [0.52, 1.0, 0.9]], np.zeros((2, 3))], dtype=np.float32)
    masks = np.array([[[0, 1, 0], [1, 1, IGNORE]], np.zeros((2, 3))], dtype=np.uint8)
    calibration.update(probabilities, masks)
    table = calibration.table()
    a = table[(table["class"] == "a") & (table["pixels"] > 0)].set_index("bin")
    assert a["pixels"].to_dict() == {0: 2, 7: 2, 14: 1}  # bins are 1/15 wide; what is not known counts nowhere
    assert a["confidence"].to_dict() == pytest.approx({0: 0.03, 7: 0.51, 14: 1.0})
    assert a["frequency"].to_dict() == {0: 0.5, 7: 0.5, 14: 1.0}
    assert expected_error(table) == pytest.approx({"a": (2 * 0.47 + 2 * 0.01) / 5, "b": 0.0})
    assert len(table) == 2 * BINS


def test_the_error_is_torchmetrics_over_images_of_several_sizes():
    rng = np.random.default_rng(0)
    calibration, every = Calibration(["a"]), []
    for shape in ((1, 9, 14), (1, 20, 3), (1, 6, 6)):
        probabilities = (rng.random(shape) ** 3).astype(np.float32)
        masks = (rng.random(shape) < probabilities).astype(np.uint8)
        calibration.update(probabilities, masks)
        every.append((probabilities.ravel(), masks.ravel()))
    flat = [torch.from_numpy(np.concatenate(one)) for one in zip(*every, strict=True)]
    theirs = binary_calibration_error(flat[0], flat[1].long(), n_bins=BINS)
    assert expected_error(calibration.table())["a"] == pytest.approx(theirs.item(), abs=1e-6)


def test_without_a_pixel_there_is_no_error():
    assert math.isnan(expected_error(Calibration(["a"]).table())["a"])


def test_the_last_probabilities_are_calibrated_if_there_are_temperatures():
    one, other = Calibration(["a"]), Calibration(["a"])
    one.update(np.array([[[0.7, 0.1]]], dtype=np.float32), np.array([[[1, 0]]], dtype=np.uint8))
    other.update(np.array([[[1.0, 0.0]]], dtype=np.float32), np.array([[[1, 0]]], dtype=np.uint8))
    both, alone = before_and_after(one, other), before_and_after(one, None)
    table_schemas.RELIABILITY.validate(both)
    assert expected_error(last_probabilities(both))["a"] == 0
    assert expected_error(both[~both["calibrated"]])["a"] == pytest.approx(0.2)
    assert expected_error(last_probabilities(alone))["a"] == pytest.approx(0.2)
