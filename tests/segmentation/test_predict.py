import pytest
import torch

from seg_pipeline.segmentation.predict import predict_masks


def test_an_empty_test_split_is_named(manifest):
    with pytest.raises(ValueError, match=r"no image to predict: the test split is empty; .*`split.shares.test`"):
        predict_masks(manifest[:0], {}, device=torch.device("cpu"), batch_size=2, threshold=0.5)
