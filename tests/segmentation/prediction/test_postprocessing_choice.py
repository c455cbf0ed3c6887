import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from seg_pipeline.segmentation.images.masks import encode_rle
from seg_pipeline.segmentation.manifest import table_schemas
from seg_pipeline.segmentation.manifest.table import read_masks
from seg_pipeline.segmentation.metrics.aggregation import Aggregator
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.objects.label_maps import encode_labels
from seg_pipeline.segmentation.prediction import postprocessing_choice, prediction_options, validation_gain
from seg_pipeline.segmentation.prediction.checkpoint_predictor import describe
from seg_pipeline.segmentation.prediction.postprocessing import Postprocessing, make_masks
from seg_pipeline.segmentation.prediction.postprocessing_choice import Choices
from seg_pipeline.segmentation.prediction.predict_images import load_models
from seg_pipeline.segmentation.prediction.prediction_options import whole_series
from seg_pipeline.segmentation.prediction.uncertainty_choice import with_temperatures
from seg_pipeline.segmentation.prediction.validation_gain import validation_runs
from seg_pipeline.segmentation.settings.training import PredictSettings
from seg_pipeline.segmentation.training.state import start

CPU = torch.device("cpu")
AGGREGATOR = Aggregator("image", "skip", 200, 0)


@pytest.fixture
def train_val_images(manifest):
    """Ten train images, and six to validate on, in three groups."""
    split = ["train"] * 10 + ["val"] * 6
    return manifest.assign(split=split, fold=np.arange(16) // 4 % 2)


@pytest.fixture(scope="module")
def checkpoint(config):
    trained = start(config, "", CPU).best_model()
    return {"models": [{"config": config.to_dict(), **trained}], "folds": None}


def predict_by(predict, monkeypatch):
    """Let ``predict`` give float32 (C, H, W) of a row in place of a network."""

    def predict_each(_, rows, finish, **__):
        for row in rows.to_dict("records"):
            found = predict(row, read_masks(row, ["box", "disc"]) == 1).astype(np.float32)
            yield finish(row, torch.from_numpy(found))

    monkeypatch.setattr(validation_gain, "predict_each", predict_each)


def choose(train_val_images, checkpoint, monkeypatch, predict, **changes):
    predict_by(predict, monkeypatch)
    return postprocessing_choice.choose_postprocessing(
        train_val_images,
        checkpoint,
        device=CPU,
        batch_size=2,
        **{
            "prediction": PredictSettings(),
            "aggregator": AGGREGATOR,
            "confidence": 0.95,
            "choices": Choices(calibrate=False),
            **changes,
        },
    )


def kept(found):
    return {(row["step"], row["class"]): row["value"] for row in found["gains"] if row["kept"]}


def sure(masks):
    return np.where(masks, 0.9, 0.02)


def test_no_step_is_kept_for_a_perfect_model(train_val_images, checkpoint, monkeypatch):
    found, curve = choose(train_val_images, checkpoint, monkeypatch, lambda _, masks: sure(masks))
    assert Postprocessing.from_dict(found["settings"]) == Postprocessing.none(2, 0.5)
    assert found["review"]["look_above"] is None
    assert (found["review"]["num_low"], found["review"]["num_images"]) == (0, 5)  # one image shows neither class
    assert not kept(found)
    assert (found["chosen_on"], found["resampled"], found["num_images"]) == ("val", "groups", 6)
    table_schemas.THRESHOLD_CURVE.validate(curve)
    assert curve.groupby("class").size().to_dict() == {"box": 19, "disc": 19}


def test_each_fault_is_fixed_for_its_class_alone(train_val_images, checkpoint, monkeypatch):
    """The box is predicted too faintly, and has a speck beside it in every image; the disc has a hole."""

    def predict(_, masks):
        found = sure(masks)
        found[0] = np.where(masks[0], 0.4, 0.1)
        found[0, 30:33, 2:5] = 0.45  # nine pixels
        inner = np.argwhere(masks[1])
        if len(inner):
            row, column = inner.mean(0).round().astype(int)
            found[1, row - 1 : row + 2, column - 1 : column + 2] = 0.02  # no threshold corrects it
        return found

    found, _ = choose(train_val_images, checkpoint, monkeypatch, predict)
    assert kept(found) == {
        ("thresholds", "box"): 0.2,  # 0.1 to 0.35 are equally good
        ("fill_holes", "disc"): True,
        ("min_area", "box"): 10,
    }
    assert found["gains"][-1]["dice_after"] == 1
    settings = Postprocessing.from_dict(found["settings"])
    for row in train_val_images[train_val_images["split"] == "val"].to_dict("records"):
        truth = read_masks(row, ["box", "disc"]) == 1
        masks = make_masks(predict(row, truth).astype(np.float32), settings, task="multilabel", background=False)
        assert np.array_equal(masks, truth)


def test_min_peak_is_chosen_if_it_clears_false_positives(train_val_images, checkpoint, monkeypatch):
    """A true box has a certain core and a faint rim, so no threshold removes the faint box from empty images."""
    rows = train_val_images.assign(group=[f"group{index % 3}" for index in range(16)])

    def predict(row, masks):
        found = sure(masks)
        if masks[0].any():
            found[0] = np.where(masks[0], 0.6, 0.02)
            found[0][tuple(np.argwhere(masks[0])[0])] = 0.9
        if row["image_id"] in ("scan10", "scan11", "scan12"):
            found[0] = 0.02
            found[0, 4:18, 4:15] = 0.6
        return found

    empty = rows["image_id"].isin(["scan10", "scan11", "scan12"])
    rows = rows.assign(mask_box=rows["mask_box"].where(~empty, ""))
    found, _ = choose(rows, checkpoint, monkeypatch, predict)
    assert kept(found) == {("min_peak", "box"): 0.75}  # 0.65 to 0.85 are equally good


def test_a_gain_in_only_one_of_three_groups_counts_as_chance(train_val_images, checkpoint, monkeypatch):
    """Filling holes helps the images of one group and changes no other."""
    rows = train_val_images[train_val_images["split"] == "val"]
    lucky = rows["group"].iloc[-1]

    def predict(row, masks):
        found = sure(masks)
        if row["group"] == lucky and masks[1].any():
            row_, column = np.argwhere(masks[1]).mean(0).round().astype(int)
            found[1, row_, column] = 0.1
        return found

    found, _ = choose(train_val_images, checkpoint, monkeypatch, predict)
    assert not kept(found)


def test_without_steps_masks_are_only_thresholded(train_val_images, checkpoint, monkeypatch):
    bare = Choices(steps=False, calibrate=False)
    found, curve = choose(train_val_images, checkpoint, monkeypatch, lambda _, masks: sure(masks) * 0.4, choices=bare)
    assert found["gains"] == []
    assert found["settings"]["thresholds"] == [0.5, 0.5]
    assert len(curve) == 38


def test_an_image_of_low_dice_is_flagged_and_probabilities_are_calibrated(train_val_images, checkpoint, monkeypatch):
    """One of five images with classes is predicted wrongly, and less certainly than the others."""

    def predict(row, masks):
        found = np.where(masks, 0.99, 0.01)
        if row["image_id"] == "scan11":
            found = np.where(np.roll(masks, 6, axis=2), 0.7, 0.3)
        return found

    found, _ = choose(train_val_images, checkpoint, monkeypatch, predict, choices=Choices())
    review, settings = found["review"], Postprocessing.from_dict(found["settings"])
    assert (review["num_low"], review["num_images"], review["flagged"]) == (1, 5, pytest.approx(1 / 6))
    assert settings.look_above == review["look_above"] > 0
    assert settings.temperatures is not None
    assert len(settings.temperatures) == 2


def test_temperatures_of_the_checkpoint_are_those_of_a_plain_prediction(train_val_images, checkpoint, monkeypatch):
    def predict(_, masks):
        return np.where(masks | np.roll(masks, 6, axis=2), 0.99, 0.01)

    predict_by(predict, monkeypatch)
    trained = with_temperatures(checkpoint, train_val_images, device=CPU)
    assert set(trained) == {*checkpoint, "temperatures"}
    assert len(trained["temperatures"]) == 2
    assert min(trained["temperatures"]) > 1  # it was too sure

    def chosen(checkpoint, **changes):
        found, _ = choose(train_val_images, checkpoint, monkeypatch, predict, choices=Choices(), **changes)
        return Postprocessing.from_dict(found["settings"]).temperatures

    assert chosen(checkpoint) == trained["temperatures"]
    marked = {**trained, "temperatures": (2.5, 3.5)}
    assert chosen(marked) == (2.5, 3.5)
    assert chosen(marked, prediction=PredictSettings(tta="flips")) == trained["temperatures"]
    assert describe(marked, load_models(marked, CPU)).postprocessing.temperatures == (2.5, 3.5)


def test_multiclass_has_no_threshold_to_choose(train_val_images, config, monkeypatch):
    of_labels = config.changed({"task": "multiclass", "background": True, "loss.class_weights": "none"})
    trained = start(of_labels, "", CPU).best_model()
    checkpoint = {"models": [{"config": of_labels.to_dict(), **trained}], "folds": None}

    def predict(_, masks):
        background = np.where(masks.any(0), 0.05, 0.9)[None]
        found = np.concatenate([background, sure(masks)])
        found[1, 30:33, 2:5] = 0.95
        return found

    found, curve = choose(train_val_images, checkpoint, monkeypatch, predict)
    assert found["settings"]["thresholds"] is None
    assert kept(found) == {("min_area", "box"): 10}
    assert curve.empty
    table_schemas.THRESHOLD_CURVE.validate(curve)


def test_images_of_the_test_split_are_refused(manifest, checkpoint):
    run = {
        "device": CPU,
        "batch_size": 2,
        "prediction": PredictSettings(),
        "aggregator": AGGREGATOR,
        "confidence": 0.95,
    }
    with pytest.raises(
        ValueError, match=r"3 images of the test split \(scan13, scan14, scan15\) would be read to choose"
    ):
        postprocessing_choice.choose_postprocessing(manifest, checkpoint, **run)
    with pytest.raises(ValueError, match=r"to measure the options .*: it is held out .* `train_val_images`"):
        prediction_options.measure_options(manifest, checkpoint, max_images=4, **run)


def test_each_fold_is_predicted_by_the_model_it_validated(train_val_images, checkpoint):
    folds = {"models": ["zero", "one"], "folds": 2}
    runs = list(validation_runs(train_val_images, folds, "test"))
    assert [models["models"] for _, models in runs] == [["zero"], ["one"]]
    assert [set(rows["fold"]) for rows, _ in runs] == [{0}, {1}]
    assert sum(len(rows) for rows, _ in runs) == len(train_val_images)


@pytest.mark.slow
def test_the_gain_and_cost_of_options_are_measured(train_val_images, config, monkeypatch):
    """By a clock that ticks once for each image that goes through the network."""
    images = []
    forward = Segmenter.forward
    monkeypatch.setattr(Segmenter, "forward", lambda self, batch: images.extend(batch) or forward(self, batch))
    monkeypatch.setattr(prediction_options, "time", SimpleNamespace(perf_counter=lambda: len(images)))
    crops = config.changed({"input.resize_mode": "crop", "input.size": (32, 32)})
    trained = start(crops, "", CPU).best_model()
    checkpoint = {"models": [{"config": crops.to_dict(), **trained}], "folds": None}
    table = prediction_options.measure_options(
        train_val_images,
        checkpoint,
        device=CPU,
        batch_size=2,
        prediction=PredictSettings(tta="horizontal", overlap=0.25),
        aggregator=AGGREGATOR,
        confidence=0.95,
        max_images=100,
    )
    table_schemas.PREDICTION_OPTIONS.validate(table)
    assert table["option"].tolist() == ["plain", "horizontal", "flips", "windows", "as set"]
    assert table["used"].tolist() == [False] * 4 + [True]
    assert table["gain"].iloc[0] == 0
    np.testing.assert_allclose(table["gain"], table["score"] - table["score"].iloc[0])
    assert table["cost"].tolist() == [1, 2, 4, 9, 18]  # windows: three by three of 64 x 64


def test_an_ensemble_over_folds_has_a_cost_but_no_dice(train_val_images, config, checkpoint):
    folds = {"models": checkpoint["models"] * 2, "folds": 2}
    table = prediction_options.measure_options(
        train_val_images,
        folds,
        device=CPU,
        batch_size=4,
        prediction=PredictSettings(),
        aggregator=AGGREGATOR,
        confidence=0.95,
        max_images=8,
    )
    table_schemas.PREDICTION_OPTIONS.validate(table)
    last = table.iloc[-1]
    assert (last["option"], last["cost"], last["used"]) == ("mean of 2 folds", 2, True)
    assert np.isnan(last["score"])
    assert table["option"].iloc[:-1].tolist() == ["plain", "horizontal", "flips"]


def measured(**gains: tuple[float, float]) -> pd.DataFrame:
    """Options with a gain and the low end of its interval."""
    rows = [(name, gain, low, gain + 0.01, 4.0) for name, (gain, low) in {"plain": (0, 0), **gains}.items()]
    return pd.DataFrame(rows, columns=["option", "gain", "gain_low", "gain_high", "cost"])


@pytest.mark.parametrize(
    ("gains", "option"),
    [
        ({"horizontal": (0.010, 0.001), "flips": (0.012, 0.002)}, "flips"),
        ({"horizontal": (0.012, 0.001), "flips": (0.010, 0.002)}, "horizontal"),
        ({"horizontal": (0.010, 0.001), "flips": (0.020, -0.001)}, "horizontal"),  # the better one by chance
        ({"horizontal": (0.001, 0.0005), "flips": (-0.03, -0.04)}, "none"),  # too small a gain
        ({"horizontal": (0.010, math.nan), "flips": (0.01, math.nan)}, "none"),  # one group: no interval
        ({"horizontal": (0.0, 0.0), "flips": (0.0, 0.0), "windows": (0.5, 0.4)}, "none"),  # no mirroring
    ],
)
def test_mirroring_is_chosen_if_it_gains_more_than_chance(gains, option):
    chosen = prediction_options.choose_tta(measured(**gains))
    assert chosen["option"] == option
    if option != "none":
        gain, low = gains[option]
        assert chosen == {"option": option, "gain": gain, "gain_interval": [low, gain + 0.01], "cost": 4.0}


def test_mirroring_cannot_be_chosen_without_measuring():
    with pytest.raises(ValueError, match=r"`prediction.tta: auto` needs `evaluation.option_images` above 0"):
        prediction_options.choose_tta(measured()[:0])


def test_auto_means_what_evaluation_chose():
    auto = PredictSettings(tta="auto", overlap=0.5)
    assert auto.resolved({"tta": {"option": "flips"}}) == PredictSettings(tta="flips", overlap=0.5)
    assert auto.resolved(None).tta == auto.resolved({"gains": []}).tta == "none"
    assert PredictSettings(tta="horizontal").resolved({"tta": {"option": "flips"}}).tta == "horizontal"
    assert auto.mirrored == PredictSettings().mirrored


@pytest.mark.parametrize("better", ["flips", "none"])
def test_the_option_of_auto_is_marked_as_used(train_val_images, checkpoint, monkeypatch, better):
    monkeypatch.setattr(prediction_options, "choose_tta", lambda _: {"option": better})
    run = {"device": CPU, "batch_size": 4, "aggregator": AGGREGATOR, "confidence": 0.95, "max_images": 2}
    auto = PredictSettings(tta="auto")
    table = prediction_options.measure_options(train_val_images, checkpoint, prediction=auto, **run)
    assert table.loc[table["used"], "option"].tolist() == [{"flips": "flips", "none": "plain"}[better]]


def test_without_images_nothing_is_measured(train_val_images, checkpoint):
    table = prediction_options.measure_options(
        train_val_images,
        checkpoint,
        device=CPU,
        batch_size=2,
        prediction=PredictSettings(),
        aggregator=AGGREGATOR,
        confidence=0.95,
        max_images=0,
    )
    assert table.empty
    table_schemas.PREDICTION_OPTIONS.validate(table)


def test_series_are_drawn_whole():
    rows = pd.DataFrame({"series": list("aaabbbcccddd")})
    assert "".join(whole_series(rows, 6)["series"]) == "aaaccc"
    assert "".join(whole_series(rows, 1)["series"]) == "aaa"
    assert len(whole_series(rows, 99)) == 12


def test_options_of_small_images_have_no_windows(config):
    rows = pd.DataFrame({"height": [30], "width": [31]})
    crops = config.changed({"input.resize_mode": "crop", "input.size": (32, 32)}).input
    assert list(prediction_options.options_of(PredictSettings(), crops, rows)) == ["plain", "horizontal", "flips"]
    wide = rows.assign(width=33)
    assert list(prediction_options.options_of(PredictSettings(), crops, wide)) == [
        "plain",
        "horizontal",
        "flips",
        "windows",
    ]


def test_threads_change_no_choice(train_val_images, checkpoint):
    def chosen(workers):
        return postprocessing_choice.choose_postprocessing(
            train_val_images,
            checkpoint,
            device=CPU,
            batch_size=2,
            prediction=PredictSettings(),
            aggregator=AGGREGATOR,
            confidence=0.95,
            workers=workers,
        )

    (settings, curve), (others, other_curve) = chosen(0), chosen(3)
    assert settings == others
    pd.testing.assert_frame_equal(curve, other_curve, check_exact=True)


def halves(row):
    """The box of an image as two objects, and the column between them."""
    mask = read_masks(row, ["box"])[0]
    columns = np.flatnonzero(mask.any(0))
    middle = int(columns.mean()) if columns.size else 0
    return mask * np.where(np.arange(48) > middle, 2, 1), middle


def test_options_of_a_model_of_objects_are_judged_by_its_objects(train_val_images, config, monkeypatch):
    """Each box is two objects, which only mirrored images tell apart; the masks are always right."""
    maps = [encode_labels(halves(row)[0]) for row in train_val_images.to_dict("records")]
    images = train_val_images.assign(object_map_box=maps, object_map_disc="")

    def predict_each(_, rows, finish, *, settings, **__):
        for row in rows.to_dict("records"):
            masks, middle = read_masks(row, ["box", "disc"]), halves(row)[1]
            masks[1] = 0  # no disc is an object
            found = np.concatenate([np.where(masks, 0.98, 0.02), np.zeros(masks.shape)])
            found[2, :, middle : middle + 2] = {"none": 0.0, "horizontal": 0.5, "flips": 0.9}[settings.tta]
            yield finish(row, torch.from_numpy(found.astype(np.float32)))

    monkeypatch.setattr(prediction_options, "predict_each", predict_each)
    monkeypatch.setattr(prediction_options, "time", SimpleNamespace(perf_counter=iter([0, 1, 0, 2, 0, 4]).__next__))
    table = prediction_options.measure_options(
        images,
        checkpoint_of(config.changed({"objects": True})),
        device=CPU,
        batch_size=2,
        prediction=PredictSettings(tta="auto"),
        aggregator=AGGREGATOR,
        confidence=0.95,
        max_images=100,
    )
    table_schemas.PREDICTION_OPTIONS.validate(table)
    assert set(table["measure"]) == {"F1 of objects"}
    scores = table.set_index("option")["score"]
    assert scores["plain"] < 0.1  # a box with unequal halves matches the larger one
    assert scores["horizontal"] == scores["flips"] == 1
    assert table.loc[table["used"], "option"].tolist() == ["horizontal"]  # the quicker of equally good ones


@pytest.mark.parametrize(("valley", "seed"), [(0.6, 0.8), (0.2, None)])
def test_objects_are_split_where_that_matches_more_of_them(train_val_images, config, monkeypatch, valley, seed):
    """Each box is two objects. Between them the probability of no gap falls to ``valley``: only higher seeds part them,
    to 0.95 equally well.

    A speck beside them is no object.
    """

    maps = [encode_labels(halves(row)[0]) for row in train_val_images.to_dict("records")]
    images = train_val_images.assign(object_map_box=maps, object_map_disc="")
    checkpoint = checkpoint_of(config.changed({"objects": True}))

    def predict(row, masks):
        found, middle = np.zeros(masks.shape), halves(row)[1]
        found[0, :, middle : middle + 2] = 1 - valley
        if masks[0].any():
            masks[0, -1, -2:] = True
        return np.concatenate([np.where(masks, 0.98, 0.02), found])

    found, _ = choose(images, checkpoint, monkeypatch, predict)
    assert kept(found).get(("object_seeds", "box")) == seed
    assert kept(found)["min_area", "box"] == 5
    assert found["settings"]["object_seeds"] == [seed or 0.5, 0.5]
    last = [row for row in found["gains"] if (row["step"], row["class"]) == ("object_area", "box")]
    assert [(row["dice_after"], row["kept"]) for row in last] == [(1, False)]
    assert "mean F1 of the objects over IoU .5 to .95" in found["rule"]


def test_a_step_of_objects_is_kept_if_it_never_loses(train_val_images, config, monkeypatch):
    """Specks are in one image alone: half of the resamples gain nothing from leaving them out, and none loses."""
    maps = [encode_labels(read_masks(row, ["box"])[0]) for row in train_val_images.to_dict("records")]
    images = train_val_images.assign(object_map_box=maps, object_map_disc="")
    checkpoint = checkpoint_of(config.changed({"objects": True}))

    def predict(row, masks):
        masks[0, -1, -2:] |= row["image_id"] == "scan13"
        return np.concatenate([np.where(masks, 0.98, 0.02), np.zeros(masks.shape)])

    found, _ = choose(images, checkpoint, monkeypatch, predict)
    assert kept(found) == {("object_area", "box"): 5}


def test_doubtful_objects_are_left_out_and_stay_in_the_mask(train_val_images, config, monkeypatch):
    """Each image also shows a crowd: pixels of the class that belong to no object, predicted with 0.71."""
    maps, masks = [], []
    for row in train_val_images.to_dict("records"):
        mask = read_masks(row, ["box"])[0]
        maps.append(encode_labels(mask))
        mask[-8:, -8:] = 1
        masks.append(encode_rle(mask, order="C"))
    images = train_val_images.assign(object_map_box=maps, object_map_disc="", mask_box=masks)
    checkpoint = checkpoint_of(config.changed({"objects": True}))

    def predict(_, masks):
        found = np.concatenate([np.where(masks, 0.98, 0.02), np.zeros(masks.shape)])
        found[0, -8:, -8:] = 0.71
        return found

    found, _ = choose(images, checkpoint, monkeypatch, predict)
    # 0.71 counts as a little less than 0.7 (float32), and 0.98 as 0.95: of .7 to .925 the middle
    assert kept(found) == {("object_confidence", "box"): 0.825}


def checkpoint_of(config):
    return {"models": [{"config": config.to_dict(), **start(config, "", CPU).best_model()}], "folds": None}
