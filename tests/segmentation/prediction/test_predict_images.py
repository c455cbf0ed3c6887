import math

import pandas as pd
import pytest
import torch

from seg_pipeline.segmentation.manifest import table_schemas
from seg_pipeline.segmentation.metrics.calibration import Calibration
from seg_pipeline.segmentation.metrics.split_scores import score_predictions
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing
from seg_pipeline.segmentation.prediction.predict_images import (
    full_size_probabilities,
    load_members,
    mirrored_vote,
    predict_masks,
    probabilities_of,
    stitched,
)
from seg_pipeline.segmentation.settings.training import ComputeSettings, MeasureSettings, PredictSettings, ScoreSettings
from seg_pipeline.segmentation.training.run import train
from seg_pipeline.segmentation.training.state import start

CPU = torch.device("cpu")


def untrained(config, *seeds):
    members = [start(config.changed({"seed": seed}), "", CPU).best_member() for seed in seeds]
    return {"members": [{"config": config.to_dict(), **member} for member in members]}


def predicted_masks(rows, checkpoint, **options):
    bare = Postprocessing.none(2, 0.5)
    return predict_masks(rows, checkpoint, device=CPU, batch_size=2, postprocessing=bare, **options)


@pytest.mark.parametrize("fit", ["resize", "pad", "crop"])
def test_prediction_reproduces_the_validation_score_of_training(manifest, config, fit):
    """Images are 40 x 48 and the input 64 x 64, so that scores are near and not equal, but for crop."""
    native = config.changed({"input.size": (64, 64), "input.resize_mode": fit, "fit.epochs": 2})
    *_, end = train(manifest, native, ComputeSettings())
    val = manifest[manifest["split"] == "val"]
    table = predicted_masks(val, end.best)
    settings = {"scores": ScoreSettings(aggregation="dataset"), "measures": MeasureSettings(), "seed": 0}
    found = score_predictions(val, table, **settings)
    row = end.best["members"][0]["row"]
    assert found.scores["mean_dice"] == pytest.approx(row["val_dice"], abs=1e-6 if fit == "crop" else 0.05)


def test_an_ensemble_averages_probabilities(manifest, config):
    checkpoint = untrained(config, 1, 2)
    rows = manifest.head(2)
    both = predicted_masks(rows, checkpoint)
    pd.testing.assert_frame_equal(both, predicted_masks(rows, {"members": checkpoint["members"][::-1]}))
    assert len(load_members(checkpoint, CPU)) == 2


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_the_mean_vote_by_hand(task):
    """Of an image 1 x 2 as it is and mirrored, under a network that is surer of the left pixel."""

    def model(images):
        probabilities = torch.tensor([[0.9, 0.2], [0.1, 0.8]])  # (K, W), whatever the image shows
        scaled = probabilities.logit() if task == "multilabel" else probabilities.log()
        return scaled.view(1, 2, 1, 2)

    logits = mirrored_vote(model, torch.zeros(1, 3, 1, 2), ((), (-1,)), task)
    found = probabilities_of(logits, task)[0, :, 0]
    torch.testing.assert_close(found, torch.tensor([[0.55, 0.55], [0.45, 0.45]]))


def test_flips_mirror_back(manifest, config):
    """A network whose answer is the image: mirrored there and back, nothing changes."""
    images = torch.rand(2, 3, 6, 10)
    for tta in ("none", "horizontal", "flips"):
        mirrored = PredictSettings(tta=tta).mirrored
        assert len(mirrored) == {"none": 1, "horizontal": 2, "flips": 4}[tta]
        torch.testing.assert_close(mirrored_vote(lambda image: image, images, mirrored, "multilabel"), images)


def test_stitched_windows_cover_the_whole_image(config):
    """A network that looks at single pixels gives the same in windows."""
    calls = []

    def model(windows):
        calls.append(windows.shape)
        return windows[:, :2] * 2 - 1

    image = torch.rand(1, 3, 64, 160)
    found = stitched(model, image, config, overlap=0.5, batch_size=4)
    torch.testing.assert_close(found, image[:, :2] * 2 - 1)
    assert [shape[0] for shape in calls] == [4, 4, 4]  # three by four windows of 32 x 64
    assert calls[0][2:] == (32, 64)


@pytest.mark.slow
def test_settings_reach_the_prediction(manifest, config):
    """Mirrored views, windows and the first of two models each change the probabilities; the plain ones repeat."""
    crops = config.changed({"input.resize_mode": "crop", "input.size": (32, 32)})
    checkpoint = untrained(crops, 1, 2)

    def predicted(**settings):
        found = full_size_probabilities(
            manifest.head(1), checkpoint, device=CPU, batch_size=2, settings=PredictSettings(**settings)
        )
        (probabilities,) = found
        assert probabilities.shape == (2, 40, 48)
        return probabilities

    plain = predicted()
    assert torch.equal(plain, predicted())
    first = {"members": checkpoint["members"][:1]}
    (alone,) = full_size_probabilities(manifest.head(1), first, device=CPU, batch_size=2)
    assert torch.equal(predicted(ensemble="first"), alone)
    for other in ({"tta": "flips"}, {"overlap": 0.5}, {"ensemble": "first"}):
        assert not torch.allclose(predicted(**other), plain)


def test_predictions_report_peak_and_mean_probability(manifest, config):
    checkpoint, rows = untrained(config, 1), manifest.head(2)
    calibration = Calibration(["box", "disc"])
    table = predicted_masks(rows, checkpoint, calibration=calibration)
    table_schemas.PREDICTIONS.validate(table)
    (first, _) = full_size_probabilities(rows, checkpoint, device=CPU, batch_size=2)
    assert table["peak_disc"].iloc[0] == pytest.approx(first[1].max().item())
    mask = first[0] > 0.5
    expected = first[0][mask].mean().item() if mask.any() else math.nan
    assert table["mean_box"].iloc[0] == pytest.approx(expected, nan_ok=True)
    assert calibration.table().groupby("class")["pixels"].sum().tolist() == [2 * 40 * 48] * 2


def test_predictions_are_at_each_images_own_size(manifest, config):
    rows = manifest.head(2)
    table = predicted_masks(rows, untrained(config, 1))
    assert table[["height", "width"]].values.tolist() == [[40, 48]] * 2


def test_an_empty_test_split_is_reported(manifest):
    with pytest.raises(ValueError, match=r"no images to predict: the test split is empty; .*`split.shares.test`"):
        predicted_masks(manifest[:0], {})
