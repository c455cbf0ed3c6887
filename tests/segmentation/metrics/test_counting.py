import numpy as np
import pytest
import torch

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.metrics import overlap as metrics
from seg_pipeline.segmentation.metrics.counting import count_pixels


def masks_of(rng, *, overlap, fill):
    """Bool (3, 8, 13), with some pixels of no class or of two."""
    labels = rng.integers(0, 3 if fill else 4, (8, 13))
    masks = labels == np.arange(3)[:, None, None]
    return masks | (rng.random(masks.shape) > 0.9) if overlap else masks


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("ignored", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("fill", [True, False])
@pytest.mark.parametrize("overlap", [(False, False), (True, False), (False, True)])
def test_the_quick_counts_are_those_of_the_metrics(overlap, fill, ignored, partial):
    rng = np.random.default_rng(5)
    predicted, truth = (masks_of(rng, overlap=one, fill=fill) for one in overlap)
    truth = truth.astype(np.uint8)
    predicted[:, :3], truth[:, :3] = False, 0  # rows in which there is nothing
    truth[:, rng.random((8, 13)) < ignored] = IGNORE
    if partial:
        truth[1] = IGNORE  # a class that is not annotated
    counts, confusion = count_pixels(predicted, truth)
    pair = torch.from_numpy(predicted)[None], torch.from_numpy(truth)[None]
    for name, expected in metrics.count(*pair)._asdict().items():
        assert torch.equal(getattr(counts, name), expected), name
    assert torch.equal(confusion, metrics.confusion(*pair))
