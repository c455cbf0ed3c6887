"""What is counted of a candidate is what its masks would have: both ways on random images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.metrics.overlap import count
from seg_pipeline.segmentation.objects.splitting import THRESHOLDS, to_levels
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, clean_masks, make_masks
from seg_pipeline.segmentation.prediction.postprocessing_candidates import (
    AREAS,
    PackedLevels,
    argmax_levels,
    count_levels,
    count_objects,
    counts_if_cleared,
)

seeds = st.integers(0, 2**32 - 1)


def random_case(seed):
    """Probabilities of three channels, smooth, and a truth of two classes with ignored pixels: 15 x 22."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(3, 15, 22)), (0, 0.9, 0.9))
    probabilities = (1 / (1 + np.exp(-5 * noise))).astype(np.float32)
    truth = (rng.random((2, 15, 22)) > 0.7).astype(np.uint8)
    truth[:, rng.random((15, 22)) > 0.95] = IGNORE
    return probabilities, truth


def three(masks, truth):
    """Counts (C, 3) by the metric that scores are made of."""
    counts = count(torch.from_numpy(masks)[None], torch.from_numpy(truth)[None])
    return np.stack([counts.true_pos[0], counts.false_pos[0], counts.false_neg[0]], axis=1)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_counts_from_levels_match_masks_at_each_threshold(seed):
    probabilities, truth = random_case(seed)
    probabilities[0, 0, :2] = np.float32(0.5), np.float32(0.35)  # a probability that is a threshold is not above it
    counts = count_levels(to_levels(probabilities[:2], THRESHOLDS), truth, len(THRESHOLDS))
    for at, threshold in enumerate(THRESHOLDS):
        bare = Postprocessing.none(2, threshold)
        masks = make_masks(probabilities[:2], bare, task="multilabel", background=False)
        np.testing.assert_array_equal(counts[at], three(masks, truth))


@pytest.mark.parametrize("background", [True, False])
def test_counts_from_winners_match_multiclass_masks(background):
    probabilities, truth = random_case(3)
    channels = probabilities if background else probabilities[:2]
    masks = make_masks(channels, Postprocessing.none(2, None), task="multiclass", background=background)
    np.testing.assert_array_equal(count_levels(argmax_levels(channels, background), truth, 1)[0], three(masks, truth))


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@given(seed=seeds, fill=st.booleans(), area=st.sampled_from(AREAS), largest=st.booleans())
@settings(max_examples=40, deadline=None)
def test_counts_of_objects_match_postprocessed_masks(task, seed, fill, area, largest):
    probabilities, truth = random_case(seed)
    threshold, background = (0.5, False) if task == "multilabel" else (None, True)
    bare = Postprocessing.none(2, threshold)
    channels = probabilities if background else probabilities[:2]
    masks = make_masks(channels, bare, task=task, background=background)
    settings_ = Postprocessing(bare.thresholds, (fill,) * 2, (area,) * 2, (largest,) * 2, (0.0, 0.0))
    counts = count_objects(masks, truth, exclusive=task == "multiclass")
    cleaned = clean_masks(masks, np.ones(2), settings_, task=task)
    np.testing.assert_array_equal(counts[:, int(fill), AREAS.index(area), int(largest)], three(cleaned, truth))


def test_cleared_objects_count_as_false_negatives():
    counts = np.array([[5, 2, 1], [0, 9, 0]])
    found = counts_if_cleared(counts, np.array([0.9, 0.6]), (0.0, 0.7, 0.95))
    assert found.tolist() == [[[5, 2, 1], [5, 2, 1], [0, 0, 6]], [[0, 9, 0], [0, 0, 0], [0, 0, 0]]]


def test_levels_survive_compression():
    levels = np.random.default_rng(0).integers(0, 20, (2, 5, 7), dtype=np.uint8)
    assert np.array_equal(PackedLevels(levels).unpack(), levels)
