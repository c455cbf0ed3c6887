"""The way of an exported model against that of evaluation, which goes through torch's data sets and loaders."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from seg_pipeline.segmentation.data.datasets import ImageMaskDataset
from seg_pipeline.segmentation.export.validation import input_images, predicted_masks
from seg_pipeline.segmentation.prediction.checkpoint_predictor import checkpoint_predictor
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing
from seg_pipeline.segmentation.prediction.predictor import Predictor, prepare, to_probabilities
from seg_pipeline.segmentation.prediction.uncertainty import calibrated
from seg_pipeline.segmentation.settings.training import InputSettings, PredictSettings, SourceInput
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.state import start

CPU = torch.device("cpu")
STATISTICS = ((10.0, 200.0), (0.4,), (0.2,))


@pytest.mark.parametrize(
    "settings",
    [
        InputSettings(size=(64, 96)),
        InputSettings(size=(64, 96), resize_mode="pad", normalisation="percentile", window=(2, 98)),
        InputSettings(size=(32, 64), resize_mode="crop", scale=1.3, channels="grey", normalisation="image"),
        InputSettings(size=(64, 32), resize_mode="pad", channels=(-1, 0, 1)),
        InputSettings(
            size=(64, 32), resize_mode="crop", channels=(-2, 0), edge="black", normalisation="fixed", window=(9, 99)
        ),
        InputSettings(size=(64, 64), channels="grey", normalisation="training", statistics=STATISTICS),
    ],
    ids=lambda settings: f"{settings.resize_mode}-{settings.channels}-{settings.normalisation}",
)
def test_inputs_are_prepared_as_in_training(mixed, settings):
    dataset = ImageMaskDataset(mixed, settings, task="multilabel", background=False)
    for index, image in enumerate(input_images(mixed, settings)):
        np.testing.assert_array_equal(prepare(image, settings), dataset[index][0].numpy())


def untrained(config, *seeds):
    states = [start(config.changed({"seed": seed}), "", CPU).best_model() for seed in seeds]
    return {"models": [{"config": config.to_dict(), **state} for state in states]}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
@pytest.mark.parametrize(
    "prediction",
    [
        PredictSettings(),
        PredictSettings(tta="flips"),
        PredictSettings(tta="horizontal", overlap=0.5),
        PredictSettings(ensemble="first"),
    ],
    ids=["plain", "flips", "windows", "first"],
)
def test_probabilities_match_evaluation(mixed, checkpoint, task, prediction, full_size_probabilities):
    """Images of 24 to 50 rows, in windows of 32 x 64; two models."""
    tiny = TrainingConfig.from_dict(checkpoint["config"]).changed(
        {"input": InputSettings(size=(32, 64), resize_mode="crop"), "classes": ("left", "top")}
    )
    both = untrained(tiny.changed({"task": task, "background": task == "multiclass"}), 1, 2)
    plain = Postprocessing.none(2, 0.5 if task == "multilabel" else None)
    steps = replace(plain, temperatures=(1.5, 0.8) if task == "multilabel" else (1.5, 1.5))
    ours = checkpoint_predictor(both, device=CPU, prediction=prediction, postprocessing=steps)
    rows = mixed.iloc[[0, 2, 4]]
    evaluated = full_size_probabilities(rows, both, prediction)
    for image, expected in zip(input_images(rows, tiny.input), evaluated, strict=True):
        found = calibrated(expected.numpy(), steps.temperatures, task)
        np.testing.assert_allclose(ours.probabilities(image), found, atol=2e-5)


@pytest.mark.slow
def test_images_of_a_source_are_normalised_as_in_its_training(mixed, checkpoint, full_size_probabilities):
    common = InputSettings(size=(32, 64), by_source={"b": SourceInput(normalisation="fixed", window=(0, 90))})
    config = TrainingConfig.from_dict(checkpoint["config"]).changed({"input": common, "classes": ("left", "top")})
    model = untrained(config, 1)
    rows = mixed.iloc[[0, 5]].assign(source=["a", "b"])
    of_a, of_b = full_size_probabilities(rows, model)
    image_a, image_b = input_images(rows, common)
    masks = list(predicted_masks(checkpoint_predictor(model, device=CPU), rows))
    usual, own = (checkpoint_predictor(model, device=CPU, source=source) for source in (None, "b"))
    np.testing.assert_allclose(usual.probabilities(image_a), of_a.numpy(), atol=2e-5)
    np.testing.assert_allclose(own.probabilities(image_b), of_b.numpy(), atol=2e-5)
    assert np.abs(usual.probabilities(image_b) - of_b.numpy()).max() > 1e-3
    for mask, expected in zip(masks, (of_a, of_b), strict=True):  # as the export measures Dice
        np.testing.assert_array_equal(mask, expected.numpy() > 0.5)
    with pytest.raises(ValueError, match="no normalisation for images of 'a'; this model has one for b"):
        checkpoint_predictor(model, device=CPU, source="a")


def test_onnx_matches_the_checkpoint(bundle_folder, checkpoint, mixed):
    trained, exported = checkpoint_predictor(checkpoint, device=CPU), Predictor(bundle_folder, threads=1)
    for image in input_images(mixed, exported.bundle.input):
        mine, theirs = exported.full_size_logits([image])[0], trained.full_size_logits([image])[0]
        assert mine.shape == (2, *image.shape[:2])
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_a_batch_matches_single_images(bundle_folder, mixed):
    predictor = Predictor(bundle_folder, threads=1)
    images = list(input_images(mixed, predictor.bundle.input))
    for one, image in zip(predictor.batch_probabilities(images), images, strict=True):
        np.testing.assert_allclose(one, predictor.probabilities(image), atol=1e-5)


def test_probabilities_by_hand():
    logits = np.array([[[0.0, 3.0]], [[0.0, -200.0]]], dtype=np.float32)
    np.testing.assert_allclose(to_probabilities(logits, "multilabel")[:, 0], [[0.5, 0.952574], [0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(to_probabilities(logits, "multiclass")[:, 0], [[0.5, 1], [0.5, 0]], atol=1e-6)


def test_masks_are_postprocessed(checkpoint):
    peaks = Postprocessing.none(2, 0.5).changed("min_peak", 1, 0.8)
    predictor = checkpoint_predictor(checkpoint, device=CPU, postprocessing=peaks)
    probabilities = np.full((2, 3, 4), 0.7, dtype=np.float32)
    assert predictor.masks(probabilities).any((1, 2)).tolist() == [True, False]
    assert predictor.masks(probabilities, [0.75, 0.5]).any((1, 2)).tolist() == [False, False]


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((4, 5), np.float32), "float32 (4, 5)"),
        (np.zeros((4, 5, 4), np.uint8), "uint8 (4, 5, 4)"),
        (np.zeros((0, 5), np.uint8), "uint8 (0, 5)"),
    ],
)
def test_invalid_images_are_refused(bundle_folder, image, found):
    expected = f"an image must be uint8 or uint16 of shape (H, W) or (H, W, 3), found {found}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        Predictor(bundle_folder, threads=1).probabilities(image)


def test_a_network_for_frames_refuses_a_single_image():
    settings = InputSettings(channels=(-1, 0, 1))
    image = np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match=r"needs 3 frames of a series, at the offsets \[-1, 0, 1\]"):
        prepare(image, settings)
    with pytest.raises(ValueError, match=r"found 2; pass them in this order, with None for a missing frame"):
        prepare([image, image], settings)
    with pytest.raises(ValueError, match="the frame at offset 0, the image itself, is None"):
        prepare([image, None, image], settings)
    with pytest.raises(ValueError, match="takes one image at a time, found 2 frames"):
        prepare([image, image], InputSettings())


def test_the_spread_of_the_folds_is_that_of_their_probabilities(checkpoint):
    tiny = TrainingConfig.from_dict(checkpoint["config"]).changed({"input": InputSettings(size=(32, 64))})
    both, image = untrained(tiny, 1, 2), np.random.default_rng(0).integers(0, 256, (30, 50), dtype=np.uint8)
    single = [checkpoint_predictor({"models": [one]}, device=CPU) for one in both["models"]]
    expected = 2 * np.std([one.probabilities(image) for one in single], axis=0).max(0)
    ensemble = checkpoint_predictor(both, device=CPU)
    (logits,) = ensemble.input_logits([image])
    np.testing.assert_allclose(ensemble.spread(*logits), expected, atol=1e-5)
    (logits,) = single[0].input_logits([image])
    with pytest.raises(ValueError, match="this model is a single network, so there is no spread of folds"):
        single[0].spread(*logits)
