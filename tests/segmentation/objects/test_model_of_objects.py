"""The gaps between objects on their way: manifest, samples, training, prediction, description of a model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seg_pipeline.segmentation.data.cache import open_cache
from seg_pipeline.segmentation.data.datasets import ImageMaskDataset, VisionImageMaskDataset
from seg_pipeline.segmentation.export import compare_formats, make_bundle, refuse_differences
from seg_pipeline.segmentation.export.validation import in_float32
from seg_pipeline.segmentation.images.decoding import read_image
from seg_pipeline.segmentation.images.masks import IGNORE
from seg_pipeline.segmentation.manifest import table_schemas
from seg_pipeline.segmentation.manifest.table import data_hash, read_masks
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.objects import splitting
from seg_pipeline.segmentation.objects.label_maps import encode_labels
from seg_pipeline.segmentation.objects.matching import overlaps
from seg_pipeline.segmentation.prediction.bundle import Bundle
from seg_pipeline.segmentation.prediction.checkpoint_predictor import checkpoint_predictor, describe
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, label_objects, make_masks
from seg_pipeline.segmentation.prediction.predict_images import load_models, plain_masks, predict_masks
from seg_pipeline.segmentation.prediction.predictor import Predictor
from seg_pipeline.segmentation.search.initial_loss import initial_loss
from seg_pipeline.segmentation.settings.search import SanityCheckSettings
from seg_pipeline.segmentation.settings.training import (
    ComputeSettings,
    InputSettings,
    ParitySettings,
    PredictSettings,
    ScoreSettings,
)
from seg_pipeline.segmentation.settings.training_config import TrainingConfig
from seg_pipeline.segmentation.training.run import train
from seg_pipeline.segmentation.training.setup import config_loss
from seg_pipeline.segmentation.training.state import start

CPU = torch.device("cpu")
FORM = {"task": "multilabel", "background": False}
NATIVE = InputSettings(size=(32, 64), resize_mode="crop", channels="grey")


@pytest.fixture(scope="module")
def halves(manifest):
    """Each box and each disc is two objects, which touch: its left and its right half."""

    def objects(row, name):
        mask = read_masks(row, [name])[0]
        columns = np.flatnonzero(mask.any(0))
        return encode_labels(mask * np.where(np.arange(48) > columns.mean() if columns.size else 0, 2, 1))

    rows = manifest.to_dict("records")
    return manifest.assign(**{f"object_map_{name}": [objects(row, name) for row in rows] for name in ("box", "disc")})


@pytest.fixture(scope="module")
def of_objects(config):
    return config.changed({"objects": True, "fit.epochs": 1, "input.size": (64, 64), "input.resize_mode": "pad"})


@pytest.fixture(scope="module")
def trained(halves, of_objects):
    *_, end = train(halves, of_objects, ComputeSettings())
    return end


def test_a_sample_has_the_gaps_after_the_classes(halves):
    truth = ImageMaskDataset(halves, NATIVE, **FORM, objects=True)[3][1].numpy()
    classes, found = truth[:2], truth[2:]
    assert ((classes == IGNORE) == (found == IGNORE)).all()  # the padding
    columns = np.flatnonzero((classes[0] == 1).any(0))  # the box is 11 wide; its left object has columns 0 to 5
    assert np.flatnonzero((found[0] == 1).any(0)).tolist() == columns[[4, 5, 6, 7]].tolist()


def test_unknown_classes_have_unknown_gaps(halves):
    rows = halves.assign(mask_disc="?")
    truth = ImageMaskDataset(rows, NATIVE, **FORM, objects=True)[3][1]
    assert (truth[3] == IGNORE).all()
    assert (truth[2] == 1).any()


def test_the_cache_keeps_them(halves, tmp_path):
    caches = [open_cache(halves, NATIVE, **FORM, objects=one, mode="disk", folder=tmp_path) for one in (True, False)]
    assert len(list(tmp_path.iterdir())) == 2
    plain = ImageMaskDataset(halves, NATIVE, **FORM, objects=True)
    cached = VisionImageMaskDataset(halves, NATIVE, **FORM, objects=True, cache=caches[0])
    assert all(torch.equal(one, other) for one, other in zip(plain[5], cached[5], strict=True))


def test_other_objects_are_other_data(manifest, halves):
    assert len({data_hash(manifest), data_hash(halves), data_hash(halves.assign(object_map_box=""))}) == 3


def test_a_manifest_without_objects_is_refused(manifest):
    message = r"`dataset.objects` is true, but the manifest has no column object_map_box: run data_processing again"
    with pytest.raises(ValueError, match=message):
        ImageMaskDataset(manifest, NATIVE, **FORM, objects=True)


def test_objects_of_a_multiclass_task_are_refused(config):
    with pytest.raises(ValueError, match=r"`objects` is for multilabel tasks, .* found multiclass"):
        replace(config, task="multiclass", objects=True)


def test_weights_are_for_classes_and_gaps_weigh_one(of_objects):
    assert of_objects.num_channels == 4
    weighted = of_objects.changed({"loss.class_weights": (2.0, 3.0)})
    assert weighted.channel_weights == (2, 3, 1, 1)
    assert config_loss(weighted).class_weights == (2, 3, 1, 1)
    with pytest.raises(ValueError, match=r"must be 2 numbers, found 4"):
        weighted.changed({"loss.class_weights": (2.0, 3.0, 1.0, 1.0)})


def test_settings_of_older_checkpoints_have_no_objects(config):
    older = config.to_dict()
    del older["objects"]
    assert TrainingConfig.from_dict(older) == config


def test_gaps_are_trained_but_no_class(of_objects):
    model = Segmenter(of_objects, pretrained=False)
    logits = torch.full((1, 4, 4, 4), -9.0)
    logits[0, 0], logits[0, 2:] = 9, 9
    truth = torch.ones(1, 4, 4, 4, dtype=torch.uint8)
    counts = model.counts(logits, truth, threshold=0.5)
    assert (counts.true_pos.tolist(), counts.false_neg.tolist()) == ([[16, 0]], [[0, 16]])
    assert config_loss(of_objects)(logits, truth) > config_loss(of_objects)(-logits * truth - 9, truth * 0)


@pytest.mark.parametrize(
    "settings", [PredictSettings(), PredictSettings(tta="flips", overlap=0.5)], ids=["plain", "all"]
)
def test_a_trained_model_predicts_objects(halves, trained, of_objects, settings, full_size_probabilities):
    checkpoint, val = trained.best, halves[halves["split"] == "val"]
    assert 0 <= trained.history["val_dice"].iloc[-1] <= 1
    bare = plain_masks(of_objects)
    table = predict_masks(val, checkpoint, device=CPU, batch_size=2, postprocessing=bare, settings=settings)
    table_schemas.PREDICTIONS.validate(table)
    assert [name for name in table if name.startswith("mask_")] == ["mask_box", "mask_disc"]
    assert {"object_map_box", "object_map_disc"} <= set(table)
    for probabilities in full_size_probabilities(val, checkpoint, settings):
        labels = label_objects(probabilities.numpy(), bare)
        masks = make_masks(probabilities.numpy(), bare, **FORM)
        assert probabilities.shape == (4, 40, 48)
        np.testing.assert_array_equal(labels > 0, masks)


def test_a_bundle_says_that_it_has_gaps(trained, tmp_path):
    bundle = describe(trained.best, load_models(trained.best, CPU))
    described = bundle.to_dict()
    assert (described["objects"], bundle.num_channels) == (True, 4)
    assert Bundle.from_dict(described, tmp_path).objects
    predictor = checkpoint_predictor(trained.best, device=CPU)
    assert predictor.probabilities(np.zeros((40, 48), dtype=np.uint8)).shape == (4, 40, 48)


@pytest.mark.slow
def test_an_exported_model_finds_the_same_objects(trained, halves, tmp_path):
    bundle = make_bundle(trained.best, tmp_path, formats=["onnx"])
    val = halves[halves["split"] == "val"]
    parity = compare_formats(bundle, trained.best, val, ParitySettings(images=1), ScoreSettings())
    refuse_differences(parity)
    exported, ours = Predictor(tmp_path, threads=1), checkpoint_predictor(in_float32(trained.best), device=CPU)
    image = read_image(val["path"].iloc[0])
    for one, other in zip(*(model.objects(model.probabilities(image)) for model in (exported, ours)), strict=True):
        assert one.max() == other.max()
        assert (np.diag(overlaps(one, other).iou) > 0.99).all()


def test_sanity_checks_expect_the_loss_of_all_channels(halves, of_objects):
    found = initial_loss(halves, of_objects, CPU, SanityCheckSettings(num_images=4))
    bce = next(one for one in found["terms"] if one["term"] == "bce")
    assert bce["expected"] == pytest.approx(np.log(2))
    assert [one["class"] for one in found["classes"]] == ["box", "disc"]


@pytest.mark.parametrize("objects", [True, False])
def test_postprocessing_of_a_model_without_objects_is_refused(halves, config, objects):
    model = start(config.changed({"objects": objects}), "", CPU).best_model()
    checkpoint = {"models": [{"config": {**config.to_dict(), "objects": objects}, **model}], "folds": None}
    other = Postprocessing.none(2, 0.5, objects=not objects)
    message = (
        f"trained with `dataset.objects: {str(objects).lower()}`, but the postprocessing was chosen for a different"
    )
    with pytest.raises(ValueError, match=message):
        predict_masks(halves, checkpoint, device=CPU, batch_size=2, postprocessing=other)
    with pytest.raises(ValueError, match=message):
        describe(checkpoint, load_models(checkpoint, CPU), postprocessing=other)


def test_mean_probabilities_are_computed_only_for_a_least_confidence(monkeypatch):
    probabilities = np.ones((4, 3, 3), dtype=np.float32)
    monkeypatch.setattr(splitting, "areas_and_means", lambda *_: 1 / 0)
    plain = Postprocessing.none(2, 0.5, objects=True)
    assert label_objects(probabilities, plain).max() == 1
    with pytest.raises(ZeroDivisionError):
        label_objects(probabilities, plain.changed("object_confidence", 1, 0.1))


def test_objects_by_hand():
    """Two touching objects of one class, and a small third one; the other class has none."""
    mask = np.array([[1, 1, 1, 1, 1, 1, 0, 1]])
    gap = np.array([[1, 1, 8, 9, 1, 1, 9, 1]])
    probabilities = np.stack([mask, 0 * mask, gap / 10, gap / 10]).astype(np.float32)
    plain = Postprocessing.none(2, 0.5, objects=True)
    assert label_objects(probabilities, plain).tolist() == [[[1, 1, 1, 2, 2, 2, 0, 3]], [[0] * 8]]
    some = plain.changed("object_area", 0, 2)
    assert label_objects(probabilities, some)[0].tolist() == [[1, 1, 1, 2, 2, 2, 0, 0]]
    probabilities[0, 0, 3] = 0.69  # with two of 1, which count as 0.95, a mean of (0.65 + 0.95 + 0.95) / 3 = 0.85
    assert label_objects(probabilities, plain.changed("object_confidence", 0, 0.84))[0].max() == 3
    sure = plain.changed("object_confidence", 0, 0.86)
    assert label_objects(probabilities, sure)[0].tolist() == [[1, 1, 1, 0, 0, 0, 0, 2]]
    earlier = {name: one for name, one in plain.to_dict().items() if name != "object_confidence"}
    assert label_objects(probabilities, Postprocessing.from_dict(earlier))[0].max() == 3
