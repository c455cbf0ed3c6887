"""A training that starts from the checkpoint of an earlier one."""

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from seg_pipeline.segmentation.models import trained_weights
from seg_pipeline.segmentation.models.segmenter import Segmenter
from seg_pipeline.segmentation.models.trained_weights import image_hashes, load_start_weights, read_models
from seg_pipeline.segmentation.settings.training import ComputeSettings, StartSettings
from seg_pipeline.segmentation.training.run import check_start, train
from seg_pipeline.segmentation.training.state import start

CPU = torch.device("cpu")
COMPUTE = ComputeSettings(cache="none", save_minutes=0)
HEAD = "net.segmentation_head.0.weight"


def last_of(moments):
    *_, end = moments
    return end


@pytest.fixture(scope="module")
def trained(manifest, config, tmp_path_factory):
    """The checkpoint of one epoch, its path and its weights."""
    end = last_of(train(manifest, config.changed({"fit.epochs": 1, "input.normalisation": "percentile"}), COMPUTE))
    path = tmp_path_factory.mktemp("trained") / "checkpoint.pt"
    torch.save(end.best, path)
    return SimpleNamespace(path=str(path), best=end.best, weights=end.best["models"][0]["model"])


def starting(config, path, **values):
    return replace(config, start=StartSettings(checkpoint=path, **values))


def test_rows_of_the_head_go_by_the_name_of_their_class(config, trained, caplog):
    changed = starting(replace(config, classes=("disc", "new", "box")), trained.path)
    with caplog.at_level(logging.INFO):
        state = start(changed, "", CPU)
    weights, fresh = state.model.state_dict(), Segmenter(changed, pretrained=False).state_dict()
    assert torch.equal(weights[HEAD][[2, 0]], trained.weights[HEAD])  # there: box, disc
    assert not torch.equal(weights[HEAD][1], trained.weights[HEAD][0])
    assert weights[HEAD][1].std() > 0.01
    assert weights[HEAD].shape == fresh[HEAD].shape
    others = [name for name in weights if "segmentation_head" not in name]
    assert all(torch.equal(weights[name], trained.weights[name]) for name in others)
    assert f"weights of {trained.path}; new: new" in caplog.text


def test_the_background_row_and_left_out_classes(config, tmp_path, caplog):
    before = replace(config, task="multiclass", background=True, classes=("a", "b", "c"))
    old = Segmenter(before, pretrained=False)
    path = str(tmp_path / "old.pt")
    torch.save({"models": [{"config": before.to_dict(), "model": old.state_dict()}]}, path)
    with caplog.at_level(logging.INFO):
        rows = {}
        for background in (True, False):
            after = starting(replace(before, background=background, classes=("c", "a")), path)
            load_start_weights(model := Segmenter(after, pretrained=False), after)
            rows[background] = model.state_dict()["net.segmentation_head.0.bias"]
    assert torch.equal(rows[True], old.state_dict()["net.segmentation_head.0.bias"][[0, 3, 1]])
    assert len(rows[False]) == 2
    assert "left out: b" in caplog.text
    assert "left out: b, background" in caplog.text


def test_cores_of_objects_go_with_their_class(config, tmp_path):
    before = replace(config, objects=True, classes=("a", "b"))
    old = Segmenter(before, pretrained=False)
    path = str(tmp_path / "old.pt")
    torch.save({"models": [{"config": before.to_dict(), "model": old.state_dict()}]}, path)
    after = starting(replace(before, classes=("b",)), path)
    load_start_weights(model := Segmenter(after, pretrained=False), after)
    assert torch.equal(model.state_dict()[HEAD], old.state_dict()[HEAD][[1, 3]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.architecture": "fpn", "model.decoder_channels": None},
         "`training.model.architecture` is fpn, there unet; `training.model.decoder_channels` is None, there "
         "[16, 8, 8, 8]. Use the checkpoint's settings"),
        ({"input.channels": "grey"}, "`training.input.channels` is grey, there rgb"),
        ({"task": "multiclass"}, "`dataset.task` is multiclass, there multilabel"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_both_values(manifest, config, trained, changes, message):
    changed = starting(config.changed(changes), trained.path)
    with pytest.raises(ValueError, match="do not fit") as caught:
        check_start(manifest, changed, folds=None, allowed=False)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "`training.start_from`: there is no file {path}"),
        ([1], "`training.start_from`: {path} is not the `checkpoint.pt` of a training run (AttributeError"),
        ({"models": []}, "(AssertionError: it has no trained model)"),
    ],
)
def test_a_file_that_is_no_checkpoint(config, manifest, tmp_path, content, message):
    path = str(tmp_path / "x.pt")
    if content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match="start_from") as caught:
        check_start(manifest, starting(config, path), folds=None, allowed=False)
    assert message.format(path=path) in str(caught.value)


def test_images_that_the_checkpoint_has_seen_are_refused(manifest, config, trained, caplog):
    changed = starting(config, trained.path)
    check_start(manifest, changed, folds=None, allowed=False)  # the same splits
    first, last = manifest.index[0], manifest.index[-1]
    for place, split, told in (
        (first, "test", "1 test images"),
        (first, "val", "1 val images"),
        (10, "test", "1 test"),
    ):
        moved = manifest.copy()
        moved.loc[place, "split"] = split
        with pytest.raises(ValueError, match=f"has seen {told}"):
            check_start(moved, changed, folds=None, allowed=False)
    assert "seen" not in caplog.text
    check_start(moved, changed, folds=None, allowed=True)
    assert f"has seen 1 test images ({moved.loc[10, 'image_id']})" in caplog.text
    check_start(manifest.assign(split=manifest["split"].where(manifest.index != last, "train")), changed, folds=None,
                allowed=False)  # fmt: skip


def test_a_checkpoint_without_images_is_used_with_a_warning(manifest, config, trained, tmp_path, caplog):
    path = str(tmp_path / "old.pt")
    torch.save({"members": [{"config": config.to_dict(), "model": trained.weights}]}, path)
    check_start(manifest, starting(config, path), folds=None, allowed=False)
    assert "comes from an older version that did not record its images" in caplog.text


def test_the_images_of_all_trainings_in_a_row_are_remembered(manifest, config, trained):
    changed = starting(config.changed({"fit.epochs": 1}), trained.path)
    other = manifest.assign(split=["test"] * 2 + ["train"] * 8 + ["val"] * 6)
    (images,) = (one["images"] for one in last_of(train(other, changed, COMPUTE)).best["models"])
    assert images["train"].tolist() == sorted(image_hashes(manifest[:10]))
    assert images["val"].tolist() == sorted(image_hashes(manifest[10:]))


def test_the_normalisation_is_that_of_the_checkpoint_unless_set_otherwise(manifest, config, trained, caplog):
    changed = config.changed({"fit.epochs": 1, "input.normalisation": "training", "input.window": (2, 98)})
    with caplog.at_level(logging.INFO):
        kept = next(train(manifest, starting(changed, trained.path), COMPUTE)).last["current"]["config"]["input"]
    assert (kept["normalisation"], kept["window"], kept["statistics"]) == ("percentile", None, None)
    assert f"normalisation: percentile, from {trained.path} (configured: training (2, 98))" in caplog.text.replace(
        "[2, 98]", "(2, 98)"
    )
    own = starting(changed, trained.path, keep_normalisation=False)
    state = next(train(manifest, own, COMPUTE)).last["current"]
    assert state["config"]["input"]["normalisation"] == "training"
    assert state["model"]["mean"].flatten().tolist() == pytest.approx(state["config"]["input"]["statistics"][1])


def test_it_resumes_exactly_though_the_file_has_moved(manifest, config, trained, tmp_path):
    changed = starting(config.changed({"fit.epochs": 2}), trained.path)
    moments = train(manifest, changed, COMPUTE)
    torch.save([next(moments) for _ in range(2)][-1].last, tmp_path / "last.pt")
    saved = torch.load(tmp_path / "last.pt", weights_only=True)
    moved = tmp_path / "moved.pt"
    moved.write_bytes(Path(trained.path).read_bytes())
    resumed = last_of(train(manifest, starting(changed, str(moved)), COMPUTE, saved=saved))
    mine, theirs = (one.last["current"]["model"] for one in (last_of(moments), resumed))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    torch.save({**trained.best, "data_hash": "other"}, moved)
    with pytest.raises(ValueError, match=r"other settings: .*files.start.checkpoint: "):
        next(train(manifest, starting(changed, str(moved)), COMPUTE, saved=saved))


def test_each_fold_starts_from_its_own_model(manifest, config, trained, tmp_path):
    path = str(tmp_path / "folds.pt")
    other = {name: value + 1 if name == HEAD else value for name, value in trained.weights.items()}
    entries = [{"config": config.to_dict(), "model": one} for one in (trained.weights, other)]
    torch.save({"models": entries}, path)
    for number, one in enumerate((trained.weights, other)):
        state = start(starting(config, path, model=number), "", CPU)
        assert torch.equal(state.model.state_dict()[HEAD], one[HEAD])
    with pytest.raises(ValueError, match=r"has 2 models, one per fold, and `training.folds` is null; set .*folds: 2`"):
        check_start(manifest, starting(config, path), folds=None, allowed=False)
    assert len(read_models(path)) == 2


def test_weights_of_another_shape_are_named(config, trained, tmp_path):
    path = str(tmp_path / "odd.pt")
    weights = {**trained.weights, "net.x": torch.zeros(2)}
    weights.pop("mean")
    torch.save({"models": [{"config": config.to_dict(), "model": weights}]}, path)
    with pytest.raises(ValueError, match=r"mean is missing; net.x is \(2,\), expected nothing of this name"):
        start(starting(config, path), "", CPU)


def test_blank_images_have_no_hash():
    rows = pd.DataFrame({"intensity_min": [0, 1], "intensity_max": [0, 5], "content_hash": ["f" * 32, "e" * 32]})
    assert image_hashes(rows).tolist() == [int("e" * 16, 16) - 2**64]
    assert trained_weights.image_hashes(rows).index.tolist() == [1]
