import math
import threading

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from seg_pipeline.segmentation.data.datasets import make_dataset, to_native
from seg_pipeline.segmentation.data.loaders import collate
from seg_pipeline.segmentation.data.sample_decoding import Decoder
from seg_pipeline.segmentation.data.whole_images import WholeImages, as_batch
from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest import table_schemas
from seg_pipeline.segmentation.manifest.table import read_masks
from seg_pipeline.segmentation.metrics.calibration import Calibration
from seg_pipeline.segmentation.metrics.split_scores import score_predictions
from seg_pipeline.segmentation.prediction import predict_images
from seg_pipeline.segmentation.prediction.input_logits import (
    _delay_by_one,
    mirrored_vote,
    predict_windows_of,
    probabilities_of,
)
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, make_masks
from seg_pipeline.segmentation.prediction.predict_images import (
    load_models,
    predict_each,
    predict_masks,
)
from seg_pipeline.segmentation.settings.training import ComputeSettings, MeasureSettings, PredictSettings, ScoreSettings
from seg_pipeline.segmentation.training.run import train
from seg_pipeline.segmentation.training.state import start

CPU = torch.device("cpu")


def untrained(config, *seeds):
    models = [start(config.changed({"seed": seed}), "", CPU).best_model() for seed in seeds]
    return {"models": [{"config": config.to_dict(), **trained} for trained in models]}


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
    row = end.best["models"][0]["row"]
    assert found.scores["mean_dice"] == pytest.approx(row["val_dice"], abs=1e-6 if fit == "crop" else 0.05)


def test_an_ensemble_averages_probabilities(manifest, config):
    checkpoint = untrained(config, 1, 2)
    rows = manifest.head(2)
    both = predicted_masks(rows, checkpoint)
    pd.testing.assert_frame_equal(both, predicted_masks(rows, {"models": checkpoint["models"][::-1]}))
    assert len(load_models(checkpoint, CPU)) == 2


def test_the_code_of_older_models_in_mlflow_finds_what_it_imports(config):
    """It calls the models of a checkpoint its members."""
    code = "from seg_pipeline.segmentation.prediction.predict_images import load_members"
    exec(code, found := {})
    assert len(found["load_members"]({"members": untrained(config, 1, 2)["models"]}, CPU)) == 2


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
    found = predict_windows_of(model, image, config, overlap=0.5, batch_size=4)
    torch.testing.assert_close(found, image[:, :2] * 2 - 1)
    assert [shape[0] for shape in calls] == [4, 4, 4]  # three by four windows of 32 x 64
    assert calls[0][2:] == (32, 64)


@pytest.mark.slow
def test_settings_reach_the_prediction(manifest, config, full_size_probabilities):
    """Mirrored views, windows and the first of two models each change the probabilities; the plain ones repeat."""
    crops = config.changed({"input.resize_mode": "crop", "input.size": (32, 32)})
    checkpoint = untrained(crops, 1, 2)

    def predicted(**settings):
        (probabilities,) = full_size_probabilities(manifest.head(1), checkpoint, PredictSettings(**settings))
        assert probabilities.shape == (2, 40, 48)
        return probabilities

    plain = predicted()
    assert torch.equal(plain, predicted())
    first = {"models": checkpoint["models"][:1]}
    (alone,) = full_size_probabilities(manifest.head(1), first)
    assert torch.equal(predicted(ensemble="first"), alone)
    for other in ({"tta": "flips"}, {"overlap": 0.5}, {"ensemble": "first"}):
        assert not torch.allclose(predicted(**other), plain)


def test_predictions_report_peak_and_mean_probability(manifest, config, full_size_probabilities):
    checkpoint, rows = untrained(config, 1), manifest.head(2)
    calibration = Calibration(["box", "disc"])
    table = predicted_masks(rows, checkpoint, calibration=calibration)
    table_schemas.PREDICTIONS.validate(table)
    (first, _) = full_size_probabilities(rows, checkpoint)
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


class Drawn(torch.nn.Module):
    """Logits that depend on the place and the mean of an image: a network of no cost that is the same in any batch."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, images):
        rows, columns = (torch.arange(side) / side for side in images.shape[-2:])
        wave = torch.sin(rows[:, None] * 9 + torch.arange(self.channels)[:, None, None] + columns * 5)
        return wave * 3 + images.float().mean((1, 2, 3), keepdim=True) / 60 - 2


def of_mixed(config, task, **changes):
    """A configuration of the manifest ``mixed``, and its stub of a network."""
    settings = {"task": task, "classes": ("left", "top"), "loss.class_weights": "none", "input.resize_mode": "pad"}
    given = config.changed({**settings, "background": task == "multiclass", **changes})
    return Drawn(given.num_channels), given


def one_by_one(rows, model, config, post):
    """Table and calibration as a plain loop computes them."""
    calibration, table = Calibration(["left", "top"]), []
    dataset = make_dataset(rows, config.input, task=config.task, background=config.background)
    for index, row in enumerate(rows.to_dict("records")):
        logits = to_native(model(dataset[index][0][None])[0], row["height"], row["width"], config.input)
        found = (logits.sigmoid() if config.task == "multilabel" else logits.softmax(0)).numpy()
        masks = make_masks(found, post, task=config.task, background=config.background)
        of_classes = found[int(config.background) :]
        calibration.update(of_classes, read_masks(row, ["left", "top"]))
        table.append(
            {
                **{name: row[name] for name in ("image_id", "height", "width")},
                **{
                    f"mask_{name}": encode_rle(mask, order="C")
                    for name, mask in zip(config.classes, masks, strict=True)
                },
                **{f"peak_{name}": one.max() for name, one in zip(config.classes, of_classes, strict=True)},
            }
        )
    return pd.DataFrame(table), calibration.table()


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_threads_change_no_digit(mixed, config, monkeypatch, task, workers):
    model, given = of_mixed(config, task)
    monkeypatch.setattr(predict_images, "load_models", lambda *_: [(model, given)])
    post = Postprocessing.none(2, 0.45 if task == "multilabel" else None).changed("min_area", 0, 9)
    calibration = Calibration(["left", "top"])
    table = predict_masks(
        mixed,
        {"models": [{"config": given.to_dict()}]},
        device=CPU,
        batch_size=4,
        postprocessing=post,
        calibration=calibration,
        workers=workers,
    )
    expected, reliability = one_by_one(mixed, model, given, post)
    assert (expected["mask_left"] != "").any()
    pd.testing.assert_frame_equal(table[list(expected)], expected, check_exact=True, check_dtype=False)
    pd.testing.assert_frame_equal(calibration.table(), reliability, check_exact=True)


def test_the_number_of_torchs_threads_changes_no_digit():
    """Torch computes the elements that its vectors leave over otherwise, and splits large tensors among threads."""
    logits = torch.randn(3, 266, 266, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(predict_images._in_one_thread(logits, "multilabel"))
        torch.set_num_threads(1)
        assert torch.equal(*found)
        assert torch.equal(found[0], logits.sigmoid())
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("changes", [{}, {"input.resize_mode": "crop"}, {"input.channels": (-1, 0, 1)}])
def test_images_are_those_of_the_data_set_without_decoding_the_truth(mixed, config, monkeypatch, changes):
    _, given = of_mixed(config, "multilabel", **changes)
    samples = make_dataset(mixed, given.input, task="multilabel", background=False)
    expected, _ = collate([samples[index] for index in range(len(mixed))])
    monkeypatch.setattr(Decoder, "truth", lambda *_: pytest.fail("prediction needs no ground truth"))
    images = WholeImages(mixed, given.input, task="multilabel", background=False)
    found = as_batch([images[index] for index in range(len(images))])
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()


@pytest.mark.parametrize(("shift", "times"), [(0, 1), (1, 2)])
def test_models_with_equal_input_share_the_images(mixed, config, monkeypatch, shift, times):
    decoded = []
    image = Decoder.image
    monkeypatch.setattr(Decoder, "image", lambda self, at: decoded.append(at) or image(self, at))
    model, given = of_mixed(config, "multilabel", **{"input.normalisation": "percentile"})
    other = given.changed({"input.window": (1, 99 - shift)})
    models = [(model, given.changed({"input.window": (1, 99)})), (model, other)]
    options = {"device": CPU, "batch_size": 4, "settings": PredictSettings(), "workers": 2}
    assert len(list(predict_each(models, mixed, lambda row, _: row["image_id"], **options))) == len(mixed)
    assert len(decoded) == times * len(mixed)


def test_an_image_that_is_a_frame_of_its_neighbours_is_decoded_once(mixed, config, monkeypatch):
    decoded = []
    image = Decoder.image
    monkeypatch.setattr(Decoder, "image", lambda self, at: decoded.append(at) or image(self, at))
    _, given = of_mixed(config, "multilabel", **{"input.channels": (-1, 0, 1)})
    images = WholeImages(mixed, given.input, task="multilabel", background=False)
    assert [images[index].shape[2] for index in range(len(images))] == [3] * len(mixed)
    assert sorted(decoded) == list(range(len(mixed)))


@pytest.mark.parametrize("workers", [0, 3])
def test_a_file_that_was_damaged_meanwhile_is_named(mixed, config, tmp_path, workers):
    path = tmp_path / "bad.png"
    cv2.imwrite(str(path), np.zeros((3, 5), dtype=np.uint8))
    rows = mixed.assign(path=[*mixed["path"][:4], str(path), mixed["path"].iloc[5]])
    options = {"device": CPU, "batch_size": 2, "settings": PredictSettings(), "workers": workers}
    with pytest.raises(ValueError, match=r"bad.png: image is 3 x 5 .* says 50 x 30: the file has changed"):
        list(predict_each([of_mixed(config, "multilabel")], rows, lambda *_: None, **options))


def test_few_images_are_in_work_at_once(mixed, config, monkeypatch):
    """Threads are as many as the memory allows, and wait for the consumer."""
    rows = pd.concat([mixed.assign(image_id=f"{copy}_" + mixed["image_id"]) for copy in range(10)], ignore_index=True)
    finished, threads = [], set()

    def finish(row, _):
        finished.append(row["image_id"])
        threads.add(threading.current_thread().name)

    largest = int((rows["height"] * rows["width"]).max()) * 2 * 4
    monkeypatch.setattr(predict_images, "MAX_BYTES", 2 * 4 * largest)
    options = {"device": CPU, "batch_size": 4, "settings": PredictSettings(), "workers": 8}
    found = predict_each([of_mixed(config, "multilabel")], rows, finish, **options)
    next(found)
    assert len(finished) <= 4 + 2 * 2
    assert len(list(found)) == 59
    assert len(threads) <= 2


def test_a_gpu_computes_the_next_batch_before_the_host_waits_for_one():
    happened = []

    def batches():
        for number in range(3):
            happened.append(f"compute {number}")
            yield number

    happened.extend(f"wait {number}" for number in _delay_by_one(batches()))
    assert happened == ["compute 0", "compute 1", "wait 0", "compute 2", "wait 1", "wait 2"]
