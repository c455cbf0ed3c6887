import gc
import logging
import multiprocessing
import re

import pandas as pd
import pytest
import torch

from seg_pipeline.segmentation.exploration.contact_sheets import TrainingFigures
from seg_pipeline.segmentation.settings.training import ComputeSettings
from seg_pipeline.segmentation.training.run import fold_split, train

COMPUTE = ComputeSettings(cache="none", save_minutes=None)


def end_of(manifest, config, saved=None, **options):
    *_, end = train(manifest, config, COMPUTE, saved=saved, **options)
    return end


def first_of(manifest, config, number=1, **options):
    moments = train(manifest, config, COMPUTE, **options)
    return [next(moments) for _ in range(number)][-1]


def through_a_file(saved, tmp_path):
    torch.save(saved, tmp_path / "last.pt")
    return torch.load(tmp_path / "last.pt", weights_only=True)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def short(config):
    return config.changed({"fit.epochs": 2})


@pytest.fixture(scope="session")
def folded(manifest):
    """Two folds over train and val."""
    fold = [index // 2 % 2 if split != "test" else -1 for index, split in enumerate(manifest["split"])]
    return manifest.assign(fold=fold)


def test_a_finished_training_has_nothing_left_to_do(manifest, short, caplog):
    end = end_of(manifest, short)
    with caplog.at_level(logging.INFO):
        (again,) = train(manifest, short, COMPUTE, saved=end.last)
    assert "training: 2 of 2 epochs are done, with these settings and data" in caplog.text
    pd.testing.assert_frame_equal(again.history, end.history)
    assert same(again.best["models"][0]["model"], end.best["models"][0]["model"])
    assert end.history["fold"].tolist() == [-1, -1]


def test_an_unfinished_training_with_other_settings_is_refused(manifest, config):
    saved = first_of(manifest, config).last
    other = config.changed({"input.size": (64, 64), "optimizer.learning_rate": 0.5})
    with pytest.raises(ValueError, match="unfinished") as caught:
        next(train(manifest, other, COMPUTE, saved=saved))
    assert str(caught.value) == (
        "an unfinished training run (1 of 3 epochs) has other settings: input.size: [64, 64], there [32, 64]; "
        "optimizer.learning_rate: 0.5, there 0.003. Set them back to resume it, or start from scratch with "
        "`--params training.resume=false`"
    )
    with pytest.raises(ValueError, match="has other settings: data or splits"):
        next(train(manifest.iloc[:-1], config, COMPUTE, saved=saved))


def test_a_finished_training_with_other_settings_is_replaced(manifest, short, config, caplog):
    saved = end_of(manifest, short).last
    with caplog.at_level(logging.INFO):
        first = first_of(manifest, config, saved=saved)
    assert "starting from scratch, as the last run (finished) differs in fit.epochs: 3, there 2" in caplog.text
    assert len(first.history) == 1


def test_a_fold_validates_and_the_others_train(folded):
    part = fold_split(folded, 1, 2)
    assert (part["split"] == "val").equals(folded["fold"] == 1)
    assert (part["split"] == "test").equals(folded["split"] == "test")
    assert (part["split"] == "train").equals(folded["fold"] == 0)


def test_missing_folds_are_reported(manifest, folded):
    with pytest.raises(ValueError, match=r"training.folds: 5, but the manifest has 2 folds; set `data_processing"):
        fold_split(folded, 0, 5)
    with pytest.raises(ValueError, match="but the manifest has 0 folds"):
        fold_split(manifest, 0, 2)


@pytest.mark.parametrize("stop", [1, 3])
def test_a_training_over_folds_resumes_in_the_fold_it_was_in(folded, short, tmp_path, stop):
    whole = end_of(folded, short, folds=2)
    assert [trained["row"]["epoch"] <= 2 for trained in whole.best["models"]] == [True, True]
    assert whole.history[["fold", "epoch"]].values.tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    saved = through_a_file(first_of(folded, short, stop, folds=2).last, tmp_path)
    resumed = end_of(folded, short, saved=saved, folds=2)
    assert resumed.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
    for one, other in zip(whole.best["models"], resumed.best["models"], strict=True):
        assert same(one["model"], other["model"])
    assert not same(*(trained["model"] for trained in whole.best["models"]))


def test_settings_derived_from_the_data_are_recorded_as_numbers(manifest, short, caplog):
    caplog.set_level("INFO")
    asked = short.changed(
        {"loss.class_weights": "balanced", "input.normalisation": "training", "sampling.batch_size": "auto"}
    )
    end = end_of(manifest, asked)
    assert end.last["config"] == asked.to_dict()
    settled = end.best["models"][0]["config"]
    assert len(settled["loss"]["class_weights"]) == 2
    assert re.search(rf"class weights: {'.*, '.join(asked.classes)} \d", caplog.text)
    assert isinstance(settled["sampling"]["batch_size"], int)
    (low, high), mean, std = settled["input"]["statistics"]
    assert low < high
    assert len(mean) == len(std) == 3
    (again,) = train(manifest, asked, COMPUTE, saved=end.last)  # the same request is the same run
    assert len(again.history) == 2


def test_a_save_within_the_first_epoch_has_an_empty_history(manifest, short):
    first = next(train(manifest, short, ComputeSettings(cache="none", save_minutes=0)))
    assert (len(first.history), first.last["current"]["step"]) == (0, 1)
    assert list(first.history)[:3] == ["fold", "epoch", "learning_rate"]
    assert first.best["models"][0]["row"] == {"epoch": 0}
    curves, sheet = TrainingFigures(manifest).update(first)
    assert "no val Dice" in curves.get_suptitle()
    assert sheet is not None


def test_training_figures_are_redrawn_at_the_end_but_not_too_often(manifest, short):
    figures = TrainingFigures(manifest)
    drawn = [figures.update(moment) for moment in train(manifest, short.changed({"fit.epochs": 4}), COMPUTE)]
    assert drawn[0] is drawn[1] is drawn[2]
    assert drawn[3] is not drawn[0]


def test_different_folds_count_as_different_data(folded, short):
    saved = first_of(folded, short, folds=2).last
    swapped = folded.assign(fold=folded["fold"].replace({0: 1, 1: 0}))
    with pytest.raises(ValueError, match="has other settings: data or splits"):
        first_of(swapped, short, saved=saved, folds=2)


def test_the_batch_size_is_measured_with_a_loss_stride_too(manifest, short):
    strided = short.changed({"loss.pixel_stride": 2, "sampling.batch_size": "auto", "fit.epochs": 1})
    size = end_of(manifest, strided).best["models"][0]["config"]["sampling"]["batch_size"]
    assert size == 2  # 10 train images: four steps at least


@pytest.mark.parametrize(
    "values",
    [
        {"sampling.batch_size": 1},
        {"sampling.batch_size": 4, "sampling.micro_batch_size": 1},
        {"sampling.batch_size": 3, "sampling.micro_batch_size": 2},
    ],
)
def test_batch_norm_over_a_single_value_is_refused_before_the_run(manifest, config, values):
    """At 32 x 32 the deepest map has one value per channel and image."""
    with pytest.raises(ValueError, match="a single image at a time") as caught:
        next(train(manifest, config.changed({"input.size": (32, 32), **values}), COMPUTE))
    assert str(caught.value) == (
        "`training.sampling`: a step computes a single image at a time, which leaves batch norm in unet with "
        f"{config.model.encoder} one value per channel at 32 x 32; set `batch_size` and `micro_batch_size` to "
        "2 or more per process, or a larger `training.input.size`"
    )


def test_a_batch_of_five_in_parts_of_four_leaves_no_single_image(manifest, config):
    parts = {"input.size": (32, 32), "sampling.batch_size": 5, "sampling.micro_batch_size": 4, "fit.epochs": 1}
    assert len(end_of(manifest, config.changed(parts)).history) == 1


def test_loader_workers_end_with_the_training(manifest, config):
    """Not when the garbage is collected, which waits 5 s for each worker."""
    gc.disable()
    try:
        moments = train(manifest, config.changed({"fit.epochs": 2}), ComputeSettings(cache="none", num_workers=1))
        next(moments)
        assert len(multiprocessing.active_children()) == 2
        moments.close()
        assert multiprocessing.active_children() == []
    finally:
        gc.enable()
